"""Following a schedule: at each stage's start what it says, for what is really left and really runs."""

from __future__ import annotations

import numpy as np

from samullm_tui.planner.fluid import FINISHED, RUNNING, WAITING, Fluids, begin, decide, end_units, path_at
from samullm_tui.planner.outlook import Outlook
from samullm_tui.planner.schedule import Schedule, Table
from samullm_tui.planner.shapes import Size, smallest, stays
from samullm_tui.planner.stages import Choice
from samullm_tui.planner.words import joined

__all__ = ["Follower"]


UNITS = Fluids._fields.index("used")
"""The first columns of a situation, with one value for each unit."""


class Follower:
    """Chooses the stages of one plan, first to last (see `plan_and_end`), by the same rules as the fluids."""

    def __init__(self, table: Table, schedule: Schedule) -> None:
        self._table = table
        self._schedule = schedule
        self._now = table.fluids()
        begin(table.options, self._now)

    def __call__(self, outlook: Outlook) -> Choice:
        table, schedule, now = self._table, self._schedule, self._now
        at_s = outlook.beginning.at_s - outlook.task.replays.begun.at_s
        self._look(outlook, at_s)
        before = Fluids._make(array.copy() for array in now)
        decide(table.options, schedule.moves, schedule.beside, now, at_s, schedule.grows)
        wanted = self._possible(outlook, before)
        end_units(table.options, now)
        heads = outlook.heads(wanted)
        first = min(heads, key=lambda unit: now.end_s[table.unit_of[unit[0]]])
        return Choice(wanted, _why(outlook, wanted), first)

    def _look(self, outlook: Outlook, at_s: float) -> None:
        """Writes down what has really become of everything."""
        table, now = self._table, self._now
        done = table.share_done(outlook.progress.done)
        now.used[:] = 0
        for replica in outlook.running:
            llm = outlook.task.problem.index(replica.llm)
            if llm in outlook.left:
                for gpu in replica.gpus:
                    now.used[table.unit_of[llm], table.island_of[gpu]] += 1
        now.free[:] = table.options.islands - now.used.sum(axis=0)
        for u, unit in enumerate(table.units):
            if not outlook.left & set(unit):
                now.phase[u] = FINISHED
            elif now.phase[u] == RUNNING:
                now.path[u] = path_at(table.options, now, u, at_s)
                now.share[u], now.changed_s[u] = done[u], at_s
                if now.ready_s[u] <= at_s:
                    now.serving[u] = -1

    def _possible(self, outlook: Outlook, before: Fluids) -> dict[int, Size]:
        """What runs from now on. Changes that cannot be, islands and pins considered, are put off, the last first."""
        now = self._now
        changed = [int(u) for u in np.flatnonzero(now.option != before.option)]
        while not self._can_be(outlook, changed):
            if not changed:
                return self._anything(outlook)
            self._put_off(changed.pop(), before)
        return self._wanted(outlook) or self._anything(outlook)

    def _wanted(self, outlook: Outlook) -> dict[int, Size]:
        table, now = self._table, self._now
        return {
            llm: size
            for u in np.flatnonzero(now.phase == RUNNING).tolist()
            for llm, size in table.choices[u][now.option[u]].items()
            if llm in outlook.left
        }

    def _can_be(self, outlook: Outlook, changed: list[int]) -> bool:
        table, wanted = self._table, self._wanted(outlook)
        for u in changed:
            beside = wanted if self._schedule.beside[u] else {}
            if not outlook.may_start(table.units[u], beside):
                return False
        if not outlook.task.fits(wanted):
            return False
        stay = {outlook.name(llm) for llm in wanted if table.unit_of[llm] not in changed}
        return stays(outlook.task.place(wanted, outlook.running), outlook.running, stay)

    def _put_off(self, u: int, before: Fluids) -> None:
        """The unit goes on as it was; the move that changed it is to be made later."""
        for array, old in zip(self._now[:UNITS], before[:UNITS], strict=True):
            array[u] = old[u]
        mine = self._schedule.moves[:, 0] == u
        self._now.made[mine] = before.made[mine]

    def _anything(self, outlook: Outlook) -> dict[int, Size]:
        """Where nothing of the schedule can be: the first unit that may start, in its smallest size."""
        table, problem = self._table, outlook.task.problem
        unit = next(u for u in table.units if outlook.left & set(u) and outlook.may_start(u, {}))
        u = table.unit_of[unit[0]]
        self._now.phase[:] = np.where(self._now.phase == RUNNING, WAITING, self._now.phase)
        self._now.phase[u], self._now.option[u] = RUNNING, 0
        return {llm: smallest(problem.llms[llm], problem) for llm in unit if llm in outlook.left}


def _why(outlook: Outlook, wanted: dict[int, Size]) -> str:
    sizes = outlook.sizes()
    fresh = [outlook.name(llm) for llm in wanted if llm not in sizes]
    more = [outlook.name(llm) for llm in wanted if llm in sizes and wanted[llm].gpus > sizes[llm].gpus]
    fewer = [outlook.name(llm) for llm in wanted if llm in sizes and wanted[llm].gpus < sizes[llm].gpus]
    said = [f"{joined(fresh)} now: the best of the orders and sizes tried"] if fresh else []
    said += [f"{joined(more)} with more GPUs, to end sooner"] if more else []
    said += [f"{joined(fewer)} with fewer GPUs, so that others can start"] if fewer else []
    return f"{'. '.join(said)}." if said else ""
