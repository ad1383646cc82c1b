"""What-if pins: what they allow, what is wrong with them, and which LLMs a stage must start or may not start yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from samullm_tui.domain import errors
from samullm_tui.domain.pin import Pin
from samullm_tui.domain.plan import Plan
from samullm_tui.planner.graph import LLMGraph, llm_graph
from samullm_tui.planner.words import gpu_list
from samullm_tui.simulate.application import LLMModel, Problem

__all__ = [
    "FREE",
    "StageStart",
    "allowed_islands",
    "barred_gpus",
    "broken_pins",
    "check_pins",
    "pin_words",
    "pinned",
    "wrong_pins",
]

FREE = Pin()


def barred_gpus(problem: Problem, llm: str) -> frozenset[int]:
    """GPUs that the LLM may not have."""
    pin = problem.pins.get(llm)
    return frozenset(gpu for gpu in range(problem.gpus) if pin and not pin.allows_gpu(gpu))


def allowed_islands(problem: Problem, llm: str) -> tuple[tuple[int, ...], ...]:
    """What is left of each island for the LLM."""
    barred = barred_gpus(problem, llm)
    return tuple(tuple(gpu for gpu in island if gpu not in barred) for island in problem.islands)


def pin_words(llm: str, pin: Pin) -> tuple[str, ...]:
    """What is pinned, in words: `vicuna-13b tp 2`, `vicuna-13b only on GPU 0–3`, `vicuna-13b not at tp 1`."""
    said = [f"tp {pin.tp}" if pin.tp else "", f"×{pin.dp}" if pin.dp else ""]
    said += [f"only on {gpu_list(sorted(pin.gpus))}" if pin.gpus else ""]
    said += [f"starts in stage {pin.stage}" if pin.stage else ""]
    said += [f"not at tp {tp}" for tp in sorted(pin.no_tp)] + [f"not ×{dp}" for dp in sorted(pin.no_dp)]
    said += [f"not on {gpu_list(sorted(pin.no_gpus))}" if pin.no_gpus else ""]
    return tuple(f"{llm} {what}" for what in said if what)


# Stages


class StageStart(NamedTuple):
    """The start of a stage, counted from 1: LLMs that are not finished, and those of them that run."""

    stage: int
    left: frozenset[int]
    running: frozenset[int]


def pinned(problem: Problem, graph: LLMGraph, now: StageStart) -> tuple[frozenset[int], tuple[int, ...]]:
    """(LLMs that may not start in this stage, LLMs that it must run, sources first).

    Those pinned to later stages may not; where nothing else could start, those pinned to the nearest may. It must run
    those pinned to it, and all that they wait for.
    """
    names = problem.table.llm_names
    stages = {llm: problem.pins.get(names[llm], FREE).stage for llm in now.left} if problem.pins else {}
    wanted = {llm for llm, stage in stages.items() if stage == now.stage}
    for unit in reversed(graph.units):
        if wanted & set(unit):
            wanted |= (set(unit) | graph.unit_sources(unit)) & now.left
    later = {llm: s for llm, s in stages.items() if s and s > now.stage and llm not in now.running | wanted}
    roots = [u for u in graph.units if now.left & set(u) and not graph.unit_sources(u) & now.left]
    if later and all(later.keys() & set(unit) for unit in roots):
        nearest = min(max(later.get(llm, 0) for llm in unit) for unit in roots)
        later = {llm: stage for llm, stage in later.items() if stage > nearest}
    return frozenset(later), tuple(llm for unit in graph.units for llm in unit if llm in wanted)


# What is wrong


def check_pins(problem: Problem) -> None:
    """Raises PlanError with everything that is wrong with the pins."""
    wrong = wrong_pins(problem)
    if wrong:
        raise errors.PlanError(wrong)


def wrong_pins(problem: Problem) -> list[errors.Problem]:
    """Pins that no plan can keep, each with what would be right."""
    wrong: list[errors.Problem] = []
    known = dict(zip(problem.table.llm_names, problem.llms, strict=True))
    for name, pin in problem.pins.items():
        if name not in known:
            right = f"one of {', '.join(known)}"
            wrong.append(errors.Problem("", f"pin {name}", "is no LLM of the application", right))
        else:
            found = [*_wrong_gpus(problem, pin), *_wrong_size(problem, known[name], pin)]
            wrong += [errors.Problem("", f"pin {name}", what, right) for what, right in found]
    return wrong or _wrong_stages(problem)


def _wrong_gpus(problem: Problem, pin: Pin) -> Iterable[tuple[str, str]]:
    outside = sorted(gpu for gpu in pin.gpus | pin.no_gpus if not 0 <= gpu < problem.gpus)
    if outside:
        what = f"{gpu_list(outside)} {'is' if len(outside) == 1 else 'are'} not in the cluster"
        yield what, f"GPU 0 to {problem.gpus - 1}"
    elif not any(map(pin.allows_gpu, range(problem.gpus))):
        yield "no GPU is left for it", "at least one that is not forbidden"
    if pin.stage is not None and pin.stage < 1:
        yield f"there is no stage {pin.stage}", "stages are counted from 1"


def _wrong_size(problem: Problem, llm: LLMModel, pin: Pin) -> Iterable[tuple[str, str]]:
    """Of the sizes. Where tp is wrong, dp is judged as if tp were free."""
    possible = [shape.tp for shape in llm.shapes]
    listed = ", ".join(map(str, possible))
    allowed = [tp for tp in possible if pin.tp in (None, tp) and tp not in pin.no_tp]
    if pin.tp is not None and pin.tp not in possible:
        yield f"tp {pin.tp} is not possible here", f"tp {listed}"
    elif not allowed:
        yield "every tp is forbidden", f"one of tp {listed}"
    free = allowed_islands(problem, llm.name)
    if not any(free):
        return
    most = {tp: sum(len(island) // tp for island in free) for tp in allowed or possible}
    if not any(most.values()):
        where = f"of {gpu_list(sorted(pin.gpus))}" if pin.gpus else "that are left"
        islands = "; ".join(gpu_list(island) for island in problem.islands)
        yield f"no {min(most)} GPUs {where} are in one island", f"the islands are {islands}"
    elif not any(_dp_allowed(pin, dp) for dp in range(1, max(most.values()) + 1)):
        best = max(most, key=lambda tp: most[tp])
        asked = f"dp {pin.dp}" if pin.dp is not None else "every dp that is left"
        yield f"{asked} is not possible", f"dp 1 to {most[best]} at tp {best}"


def _dp_allowed(pin: Pin, dp: int) -> bool:
    return pin.dp in (None, dp) and dp not in pin.no_dp


def _wrong_stages(problem: Problem) -> list[errors.Problem]:
    """A consumer pinned to a stage before its source's."""
    graph, names = llm_graph(problem.table), problem.table.llm_names
    stages = {llm: problem.pins.get(name, FREE).stage for llm, name in enumerate(names)}
    wrong = []
    for llm, name in enumerate(names):
        for source in sorted(_ancestors(graph, llm)):
            own, other = stages[llm], stages[source]
            if own is not None and other is not None and other > own:
                what = f"starts in stage {own}, but takes outputs of {names[source]}, pinned to stage {other}"
                wrong.append(errors.Problem("", f"pin {name}", what, f"stage {other} or later"))
    return wrong


def _ancestors(graph: LLMGraph, llm: int) -> set[int]:
    found: set[int] = set()
    new = set(graph.sources[llm])
    while new:
        found |= new
        new = {source for one in new for source in graph.sources[one]} - found
    return found


def broken_pins(problem: Problem, plan: Plan) -> list[str]:
    """Pins that a plan does not keep, one sentence each, stages counted from 1."""
    wrong = []
    first: dict[str, int] = {}
    for number, stage in enumerate(plan.stages, start=1):
        for placement in stage.placements:
            first.setdefault(placement.llm, number)
            pin = problem.pins.get(placement.llm, FREE)
            if not pin.allows(placement.tp, placement.dp) or not all(map(pin.allows_gpu, placement.gpus)):
                asked = ", ".join(pin_words(placement.llm, pin))
                wrong.append(
                    f"stage {number}: {placement.llm} tp{placement.tp} ×{placement.dp} on "
                    f"{gpu_list(placement.gpus)} is against the pin: {asked}"
                )
    for name, pin in problem.pins.items():
        if (
            pin.stage
            and name in first
            and first[name] != pin.stage
            and not _early(problem, plan, first[name])
        ):
            wrong.append(f"{name} starts in stage {first[name]} instead of {pin.stage}")
    return wrong


def _early(problem: Problem, plan: Plan, number: int) -> bool:
    """Whether a stage may start LLMs that are pinned to later ones: all that it begins with are."""
    graph = llm_graph(problem.table)
    members = {problem.index(placement.llm) for placement in plan.stages[number - 1].placements}
    heads = [u for u in graph.units if members & set(u) and not graph.unit_sources(u) & members]
    stages = {llm: problem.pins.get(problem.llms[llm].name, FREE).stage or 0 for llm in members}
    return all(any(stages.get(llm, 0) > number for llm in unit) for unit in heads)
