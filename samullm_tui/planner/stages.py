"""Making a plan stage by stage: choose the placements, simulate to the stage's end, carry the rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from samullm_tui.domain.plan import Plan, Replica, Stage
from samullm_tui.planner.due import with_due
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.shapes import Size
from samullm_tui.simulate.application import Progress, StageTrace, simulate_stage

__all__ = ["Choice", "plan_and_end"]

Choice = tuple[Mapping[int, Size], str]
"""The size of each LLM in a stage, and why."""


def plan_and_end(task: Task, planner: str, choose: Callable[[Outlook], Choice]) -> tuple[Plan, float]:
    """The plan whose stages `choose` chooses, one after another, and its makespan in seconds for the task's lengths.

    A stage ends when the first of its LLMs without a source in the stage has finished. Its `until` names all LLMs
    that have finished by then, so that the plan finishes every LLM for other lengths too.
    """
    progress, at_s = Progress.fresh(task.problem), 0.0
    running: frozenset[Replica] = frozenset()
    stages: list[Stage] = []
    while not progress.finished:
        outlook = Outlook(task, progress, running, len(stages) + 1)
        wanted, why = choose(outlook)
        wanted = with_due(outlook, wanted)
        stage, trace = _simulate(outlook, wanted, why, at_s)
        stages.append(stage)
        progress, running, at_s = trace.progress, trace.replicas, trace.end_s
    return Plan(planner=planner, stages=tuple(stages)), at_s


def _simulate(
    outlook: Outlook, wanted: Mapping[int, Size], why: str, at_s: float
) -> tuple[Stage, StageTrace]:
    """The stage to the finish of the first unit without a source inside it."""
    task, placements = outlook.task, outlook.task.place(wanted, outlook.running)
    heads = [tuple(map(outlook.name, unit)) for unit in outlook.heads(wanted)]
    until: tuple[str, ...] = ()
    first = heads[0]
    while first != until:
        until = first
        stage = Stage(placements, until, why)
        trace = simulate_stage(
            task.problem, task.output_tokens, outlook.progress, stage, outlook.running, at_s
        )
        ends = {unit: max(trace.llm_finish_s.get(llm, float("inf")) for llm in unit) for unit in heads}
        first = min(heads, key=lambda unit: ends[unit])
    finished = tuple(p.llm for p in placements if p.llm in trace.llm_finish_s)
    return Stage(placements, finished, why), trace
