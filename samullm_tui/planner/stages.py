"""Making a plan stage by stage: choose the placements, simulate to the stage's end, carry the rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from samullm_tui.domain.plan import Plan, Stage
from samullm_tui.planner.due import with_due
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.replay import Moment
from samullm_tui.planner.shapes import Size
from samullm_tui.simulate.application import StageTrace

__all__ = ["Choice", "plan_and_end", "plan_of"]


class Choice(NamedTuple):
    """The size of each LLM in a stage, and why; and the unit that should end first, if there is a guess."""

    wanted: Mapping[int, Size]
    why: str
    first: tuple[int, ...] = ()


def plan_of(task: Task, planner: str, choose: Callable[[Outlook], Choice]) -> Plan:
    """The plan of a planner that has only one for a task: made once."""
    if planner not in task.plans:
        task.plans[planner] = plan_and_end(task, planner, choose)[0]
    return task.plans[planner]


def plan_and_end(
    task: Task, planner: str, choose: Callable[[Outlook], Choice], limit_s: float = float("inf")
) -> tuple[Plan, Moment]:
    """The plan whose stages `choose` chooses, one after another, and its end for the task's lengths.

    A stage ends when the first of its LLMs without a source in the stage has finished. Its `until` names all LLMs
    that have finished by then, so that the plan finishes every LLM for other lengths too.
    A plan that takes longer than `limit_s` may be given up before its last stage: the moment is where it was.
    """
    moment = task.replays.beginning(task.output_tokens)
    stages: list[Stage] = []
    while not moment.progress.finished and moment.at_s <= limit_s:
        outlook = Outlook(task, moment.beginning, len(stages) + 1)
        choice = choose(outlook)
        choice = choice._replace(wanted=with_due(outlook, choice.wanted))
        stage, moment = _simulate(outlook, choice, moment)
        stages.append(stage)
    return Plan(planner=planner, stages=tuple(stages)), moment


def _simulate(outlook: Outlook, choice: Choice, moment: Moment) -> tuple[Stage, Moment]:
    """The stage to the finish of the first unit without a source inside it."""
    task, placements = outlook.task, outlook.task.place(choice.wanted, outlook.running)
    heads = outlook.heads(choice.wanted)
    first = choice.first if choice.first in heads else heads[0]
    until: tuple[str, ...] = ()
    while (waited := tuple(map(outlook.name, first))) != until:
        until = waited
        after, trace = task.replays.after(moment, placements, until)
        first = min(heads, key=lambda unit: (_end_s(outlook, trace, unit), unit != first))
    finished = tuple(p.llm for p in placements if p.llm in trace.llm_finish_s)
    return Stage(placements, finished, choice.why), after


def _end_s(outlook: Outlook, trace: StageTrace, unit: tuple[int, ...]) -> float:
    return max(trace.llm_finish_s.get(outlook.name(llm), float("inf")) for llm in unit)
