"""SamuLLM's greedy: stage by stage the placements with the best gain in throughput per added GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.shapes import Size, sizes_of, smallest
from samullm_tui.planner.stages import Choice, plan_of
from samullm_tui.planner.words import joined
from samullm_tui.simulate.application import Problem

__all__ = ["greedy"]

Wanted = dict[int, Size]
KEEP_LOADS = 2.0
"""A running placement stays as it is when its remaining work is under so many times its load."""
CHANGE_GAIN = 1.05
"""Running placements are changed only for so many times the throughput of leaving them alone."""


def greedy(problem: Problem, output_tokens: IntArray, task: Task | None = None) -> Plan:
    """The plan for these output lengths. Raises PlacementError when an LLM fits nowhere."""
    return plan_of(task or Task(problem, output_tokens), "greedy", _choose)


def _choose(outlook: Outlook) -> Choice:
    """The better of: everything chosen anew, and running placements left alone with free GPUs filled."""
    running = _running(outlook)
    ending = {llm: size for llm, size in running.items() if _nearly_done(outlook, llm, size)}
    anew = _grow(outlook, ending)
    if not running or anew.items() >= running.items():
        return Choice(anew, _why(outlook, anew, running))
    stay = _grow(outlook, running, fixed=frozenset(running))
    if stay and throughput(outlook, anew) < CHANGE_GAIN * throughput(outlook, stay):
        return Choice(stay, _why(outlook, stay, running))
    return Choice(anew, _why(outlook, anew, running))


def _running(outlook: Outlook) -> Wanted:
    """Unfinished LLMs that run now, in their present sizes (only those whose sources allow them to go on)."""
    sizes = outlook.sizes()
    return {llm: s for llm, s in sizes.items() if outlook.may_start(outlook.task.graph.unit_of(llm), sizes)}


def _nearly_done(outlook: Outlook, llm: int, size: Size) -> bool:
    """Whether a running LLM that nobody else must run beside is worth no change any more."""
    load_s = outlook.task.problem.llms[llm].shape(size.tp).load_s
    unit = outlook.task.graph.unit_of(llm)
    if len(outlook.left & set(unit)) > 1 or outlook.task.graph.unit_sources(unit) & outlook.left:
        return False
    return outlook.estimate(((llm, size),)).end_s < KEEP_LOADS * load_s


def throughput(outlook: Outlook, wanted: Mapping[int, Size]) -> float:
    """Useful FLOPs per second of a stage up to its end, loads included."""
    estimates = outlook.estimates(wanted)
    if not estimates:
        return 0.0
    end_s = min(estimate.first_end_s for estimate in estimates)
    return sum(estimate.flops_by(end_s) for estimate in estimates) / end_s


def _grow(outlook: Outlook, start: Wanted, fixed: frozenset[int] = frozenset()) -> Wanted:
    """Takes the change with the best gain per added GPU until none gains."""
    wanted, fixed = dict(start), fixed | start.keys()
    value = throughput(outlook, wanted)
    while True:
        best: tuple[float, float, Wanted] | None = None
        for changed in _changes(outlook, wanted, fixed):
            after = throughput(outlook, changed)
            gain = (after - value) / max(_gpus(changed) - _gpus(wanted), 1)
            if gain > 0 and (best is None or gain > best[0]):
                best = (gain, after, changed)
        if best is None:
            return wanted or _first(outlook)
        _, value, wanted = best


def _first(outlook: Outlook) -> Wanted:
    """Where nothing promises any throughput (every request refused): the first unit that may start."""
    problem = outlook.task.problem
    unit = next(u for u in outlook.task.graph.units if outlook.left & set(u) and outlook.may_start(u, {}))
    return {llm: smallest(problem.llms[llm], problem) for llm in unit if llm in outlook.left}


def _gpus(wanted: Wanted) -> int:
    return sum(size.gpus for size in wanted.values())


def _changes(outlook: Outlook, wanted: Wanted, fixed: frozenset[int]) -> Iterator[Wanted]:
    """Every stage that has one unit more, or one LLM larger or at another tp, and that fits."""
    for unit in outlook.task.graph.units:
        for changed in _sizes(outlook, unit, wanted, fixed):
            merged = wanted | changed
            if _gpus(merged) >= _gpus(wanted) and outlook.task.fits(merged):
                yield merged


def _sizes(
    outlook: Outlook, unit: tuple[int, ...], wanted: Wanted, fixed: frozenset[int]
) -> Iterator[Wanted]:
    problem = outlook.task.problem
    members = [llm for llm in unit if llm in outlook.left]
    if not members or not outlook.may_start(unit, wanted):
        return
    if not all(llm in wanted for llm in members) and len(members) > 1:
        yield {llm: wanted.get(llm) or smallest(problem.llms[llm], problem) for llm in members}
        return
    for llm in members:
        if llm not in fixed:
            for size in sizes_of(problem.llms[llm], problem):
                if size != wanted.get(llm):
                    yield {llm: size}


def _why(outlook: Outlook, wanted: Mapping[int, Size], running: Mapping[int, Size]) -> str:
    """What is new and what it brings; who waits, and for what."""
    new = [llm for llm, size in wanted.items() if size != running.get(llm)]
    rates = {llm: outlook.alone(llm, wanted[llm]).rate / wanted[llm].gpus / 1e12 for llm in new}
    brings = [f"{outlook.name(llm)} {rates[llm]:.3g}" for llm in sorted(new, key=lambda llm: -rates[llm])]
    said = [f"Chosen for useful TFLOP/s per GPU, loading included: {', '.join(brings)}"] if brings else []
    waiting = [llm for llm in sorted(outlook.left) if llm not in wanted]
    graph = outlook.task.graph
    for llm in waiting:
        missing = [
            outlook.name(s)
            for s in sorted(graph.unit_sources(graph.unit_of(llm)) & outlook.left - wanted.keys())
        ]
        said += [f"{outlook.name(llm)} waits for {joined(missing)}"] if missing else []
    idle = [outlook.name(llm) for llm in waiting if outlook.may_start(graph.unit_of(llm), wanted)]
    said += [f"{joined(idle)} {'waits' if len(idle) == 1 else 'wait'} for GPUs"] if idle else []
    return f"{'; '.join(said)}." if said else ""
