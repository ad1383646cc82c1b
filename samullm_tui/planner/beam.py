"""A beam search over stages: what runs may be kept, stopped to be loaded again later, or resized at every stage's end.

Annealed schedules (see `schedule`) never stop an LLM that runs; here every set of placements is a possible next stage.
A pass goes through the stages one after another and keeps of all plans begun only the most promising, at most as many
as it is wide; each pass is twice as wide as the one before. Stages are simulated; which sets are worth it, and which
beginnings are promising, is estimated (see `prospect`). A pass that leaves nothing out is the last: then all was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.plan import Plan, Stage
from samullm_tui.planner.due import with_due
from samullm_tui.planner.outlook import Outlook, Task
from samullm_tui.planner.prospect import Prospect
from samullm_tui.planner.replay import Moment
from samullm_tui.planner.schedule import Table
from samullm_tui.planner.shapes import Size
from samullm_tui.planner.words import joined

__all__ = ["Beam"]

BRANCHES = 6
"""Next stages simulated for each beginning, times the root of the width."""
PRUNE = 0.7
"""A beginning is left when so much of what is estimated to be left ends no sooner than the best plan."""
PROSPECT_REQUESTS = 800
"""An estimate of what is left takes as long as simulating so many requests."""

Wanted = dict[int, Size]


@dataclass(frozen=True, eq=False)
class _Beginning:
    """The first stages of a plan, where they end, and when the whole may end, by estimate."""

    stages: tuple[Stage, ...]
    moment: Moment
    end_s: float
    begun: frozenset[int] = frozenset()

    @property
    def key(self) -> tuple[object, ...]:
        """The same for beginnings that leave the same."""
        moment = self.moment
        return round(moment.at_s, 6), moment.running, moment.progress.generated.tobytes(), self.begun


class Beam:
    """Plans that end before `limit_s()` for the task's lengths. `requests` bounds the effort (see `Replays`).

    `table` has the task's units. Once nothing is left out, `complete`, everything was tried.
    """

    def __init__(self, task: Task, table: Table, limit_s: Callable[[], float], requests: int) -> None:
        alone = tuple((llm,) for unit in table.units for llm in unit)
        self.task, self.limit_s = task, limit_s
        self.table = table if table.units == alone else Table(task, alone)
        self.end = task.replays.requests + requests
        self.left_out, self.complete = False, False
        self.feeding = _feeding(task)
        self._choices: dict[tuple[int, frozenset[int]], npt.NDArray[np.int16]] = {}

    def plans(self) -> Iterator[Plan]:
        width = 1
        while not (self.spent or self.complete):
            self.left_out = False
            yield from self._through(width)
            self.complete = not self.left_out
            width *= 2

    @property
    def spent(self) -> bool:
        return self.task.replays.requests >= self.end

    def _through(self, width: int) -> Iterator[Plan]:
        """One pass over all stages."""
        level = [_Beginning((), self.task.replays.beginning(self.task.output_tokens), 0.0)]
        branches = int(BRANCHES * width**0.5)
        while level:
            found: dict[tuple[object, ...], _Beginning] = {}
            for beginning in level:
                for one in self._nexts(beginning, branches):
                    if not one.moment.progress.finished:
                        found.setdefault(one.key, one)
                    elif one.moment.at_s < self.limit_s():
                        yield Plan(planner="search", stages=one.stages)
                if self.spent:
                    self.left_out = True
                    return
            open_ones = sorted(found.values(), key=lambda one: one.end_s)
            self.left_out |= len(open_ones) > width
            level = open_ones[:width]

    def _nexts(self, beginning: _Beginning, branches: int) -> Iterator[_Beginning]:
        """The beginning and one stage more, the most promising stages first."""
        moment, number = beginning.moment, len(beginning.stages) + 1
        outlook = Outlook(self.task, moment.beginning, number)
        for place, some in enumerate(self._fitting(outlook, beginning)):
            if place == branches or self.spent:
                self.left_out = True
                return
            wanted = dict(with_due(outlook, some))
            found = self._simulated(outlook, wanted, moment)
            if found is None:
                continue
            stage, after = found
            later = Outlook(self.task, after.beginning, number + 1)
            begun = frozenset(beginning.begun | wanted.keys()) & later.left
            rest_s = self._prospect(later, after.at_s, begun).rest_s
            if after.at_s + PRUNE * rest_s < self.limit_s():
                yield _Beginning((*beginning.stages, stage), after, after.at_s + rest_s, begun)

    def _fitting(self, outlook: Outlook, beginning: _Beginning) -> Iterator[Wanted]:
        """Sets of placements that fit, the most promising first."""
        key = (beginning.moment.number, beginning.begun)
        if key not in self._choices:
            prospect = self._prospect(outlook, beginning.moment.at_s, beginning.begun)
            self._choices[key] = prospect.choices().astype(np.int16)
            self.task.replays.requests += prospect.effort
        for row in self._choices[key].tolist():
            wanted = self._wanted(row)
            if self.task.fits(wanted):
                yield wanted

    def _wanted(self, row: list[int]) -> Wanted:
        wanted: Wanted = {}
        for choices, size in zip(self.table.choices, row, strict=True):
            wanted |= choices[size] if size >= 0 else {}
        return wanted

    def _prospect(self, outlook: Outlook, at_s: float, begun: frozenset[int]) -> Prospect:
        self.task.replays.requests += PROSPECT_REQUESTS
        return Prospect(self.table, outlook, at_s, begun)

    def _simulated(self, outlook: Outlook, wanted: Wanted, moment: Moment) -> tuple[Stage, Moment] | None:
        """The stage to the finish of the first LLM that finishes for any lengths; None when there is none, or when
        another one finishes too, for these lengths only.
        """
        sure = self._finishing(outlook, wanted)
        if not sure:
            return None
        names = {llm: outlook.name(llm) for llm in sure}
        placements = self.task.place(wanted, outlook.running)
        first, until = min(sure, key=lambda llm: outlook.alone(llm, wanted[llm]).end_s), -1
        while first != until:
            until = first
            after, trace = self.task.replays.after(moment, placements, (names[until],))
            ends_s = {llm: trace.llm_finish_s.get(name, float("inf")) for llm, name in names.items()}
            first = min(sure, key=lambda llm: (ends_s[llm], llm != until))
        if not trace.llm_finish_s.keys() <= set(names.values()):
            return None
        finished = tuple(p.llm for p in placements if p.llm in trace.llm_finish_s)
        return Stage(placements, finished, _why(outlook, wanted)), after

    def _finishing(self, outlook: Outlook, wanted: Wanted) -> list[int]:
        """LLMs of a stage that finish in it whatever the lengths are: all that feed them, in a circle too, are
        finished, or in the stage and finish as well.
        """
        sure = set(wanted)
        while lacking := {llm for llm in sure if self.feeding[llm] & (outlook.left - sure)}:
            sure -= lacking
        return sorted(sure)


def _why(outlook: Outlook, wanted: Wanted) -> str:
    sizes = outlook.sizes()
    fresh = [outlook.name(llm) for llm in wanted if llm not in sizes]
    other = [outlook.name(llm) for llm in wanted if llm in sizes and wanted[llm] != sizes[llm]]
    gone = [outlook.name(llm) for llm in sizes if llm not in wanted]
    said = [f"{joined(fresh)} now: the best of the sets tried"] if fresh else []
    said += [f"{joined(other)} in another size"] if other else []
    said += [f"{joined(gone)} stopped, to be loaded again later"] if gone else []
    return f"{'. '.join(said)}." if said else ""


def _feeding(task: Task) -> list[frozenset[int]]:
    """For each LLM all others that feed it directly, those in a circle with it too."""
    table = task.problem.table
    children = np.repeat(table.llm, np.diff(table.parent_start))
    pairs = np.unique(np.stack([children, table.llm[table.parents]], axis=1), axis=0).tolist()
    return [
        frozenset(source for child, source in pairs if child == llm != source)
        for llm in range(len(task.problem.llms))
    ]
