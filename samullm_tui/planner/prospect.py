"""What the next stage may be, the most promising first, and how long the rest takes: by estimate, nothing simulated."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.fluid import Floats
from samullm_tui.planner.outlook import Outlook
from samullm_tui.planner.schedule import Table

__all__ = ["Prospect"]

MOST = 400
"""Sets of placements that are looked at, at most."""
EFFORT = 4
"""Making one of them takes as long as simulating so many requests."""


class Prospect:
    """A stage's start. Of U LLMs with K sizes each, in the order of a table that has a unit for each LLM.

    begun    LLMs that ran before: others may take their outputs though they do not run now
    end_s    [U, K] seconds from now until the LLM ends in a size, loads included
    gpu_s    [U] GPU-seconds that are at least left of it; `cold_s` [U] those of loading it where it does not run
    effort   what was spent on `choices`, in requests simulated
    """

    def __init__(self, table: Table, outlook: Outlook, at_s: float, begun: frozenset[int]) -> None:
        self.table, self.outlook, self.begun = table, outlook, begun
        self.effort = 0
        options = table.options
        self.left = np.array([bool(outlook.left & set(unit)) for unit in table.units])
        self.running = self._running()
        share = np.minimum(table.share_of_tokens(outlook.progress), 1.0)
        exists = np.arange(options.load_s.shape[1]) < options.most[:, None]
        self.gpus = (options.tp * options.dp).sum(axis=2)
        left_s = _left_s(options.curve, share)
        path_s = np.where(exists, options.path_s, 0.0)
        left_s = np.maximum(left_s, (1.0 - share)[:, None] * path_s)
        left_s = np.where(exists & self.left[:, None], left_s, np.where(exists, 0.0, np.inf))
        self.end_s = self._ends_s(left_s, at_s)
        gpu_s = np.where(exists, left_s, 0.0) * self.gpus
        self.gpu_s = np.where(exists, gpu_s, np.inf).min(axis=1)
        load = np.where(exists, options.load_s * self.gpus, np.inf).min(axis=1)
        self.cold_s = np.where(self.left, load, 0.0)
        total = options.islands.sum()
        work_s = (self.gpu_s + np.where(self.running >= 0, 0.0, self.cold_s)).sum() / total
        self.shortest_s = np.where(self.left, self.end_s.min(axis=1), 0.0)
        self.rest_s = float(max(work_s, self.shortest_s.max(initial=0.0)))

    def _running(self) -> IntArray:
        """[U] the option in which each unit runs, -1 for none."""
        sizes = self.outlook.sizes()
        found = np.full(len(self.table.units), -1)
        for u, choices in enumerate(self.table.choices):
            for k, choice in enumerate(choices):
                some = {llm: size for llm, size in choice.items() if llm in self.outlook.left}
                if some and all(sizes.get(llm) == size for llm, size in some.items()):
                    found[u] = k
        return found

    def _ends_s(self, left_s: Floats, at_s: float) -> Floats:
        """What runs goes on while more replicas load; a smaller size of the same tp needs no load."""
        options = self.table.options
        end_s: Floats = options.load_s + left_s
        for u, k in enumerate(self.running.tolist()):
            if k < 0:
                continue
            same = options.tp[u, :, 0] == options.tp[u, k, 0]
            fewer = same & (options.dp[u, :, 0] <= options.dp[u, k, 0])
            wait_s = self._loading_s(u, at_s)
            end_s[u, fewer] = wait_s + left_s[u, fewer]
            load_s = options.load_s[u]
            served = np.minimum(1.0, np.maximum(0.0, load_s - wait_s) / max(left_s[u, k], 1e-9))
            grown = np.where(served >= 1.0, wait_s + left_s[u, k], load_s + left_s[u] * (1.0 - served))
            end_s[u] = np.where(same & ~fewer, grown, end_s[u])
        return end_s

    def _loading_s(self, u: int, at_s: float) -> float:
        names = {self.outlook.name(llm) for llm in self.table.units[u]}
        engines = self.outlook.progress.engines
        clocks = [engines[r].clock_s for r in self.outlook.running if r.llm in names and r in engines]
        return max(0.0, max(clocks, default=at_s) - at_s)

    def choices(self) -> IntArray:
        """[C, U] the size of each LLM, -1 for none, in sets that have no more GPUs than there are; the best first."""
        chosen = np.array(self._sets(), dtype=np.int64).reshape(-1, len(self.table.units))
        order = np.argsort(self._estimates_s(chosen), kind="stable")
        found: IntArray = chosen[order]
        return found

    def _sets(self) -> list[tuple[int, ...]]:
        """The option of each unit, -1 for none; those that do the most work a second where there are too many."""
        total = int(self.table.options.islands.sum())
        with np.errstate(invalid="ignore"):
            rate = (self.gpu_s[:, None] / np.maximum(self.end_s, 1e-9)).tolist()
        gpus, most = self.gpus.tolist(), self.table.options.most.tolist()
        sets: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
        for u, unit in enumerate(self.table.units):
            (llm,) = unit
            needs = self._needs(llm)
            more = [(value, used, (*some, -1)) for value, used, some in sets]
            if self.left[u] and llm not in self.outlook.held:
                more += [
                    (value + rate[u][k], used + gpus[u][k], (*some, k))
                    for value, used, some in sets
                    if all(some[source] >= 0 for source in needs)
                    for k in range(most[u])
                    if used + gpus[u][k] <= total
                ]
            self.effort += EFFORT * len(more)
            sets = _best(more, total)
        return [some for _, used, some in sets if used]

    def _needs(self, llm: int) -> list[int]:
        """Which LLMs must run beside this one: sources that are not finished and never ran."""
        sources = self.outlook.task.graph.sources[llm] & self.outlook.left - self.begun
        return sorted(self.table.unit_of[source] for source in sources)

    def _estimates_s(self, chosen: IntArray) -> Floats:
        """[C] seconds until everything is done, for sets [C, U]: to the first end, and the rest after it."""
        runs = chosen >= 0
        end_s = np.where(runs, np.take_along_axis(self.end_s, np.maximum(chosen, 0).T, axis=1).T, np.inf)
        fed = (runs.astype(np.int64) @ self.table.options.feeds.astype(np.int64)) > 0
        first_s = np.where(runs & ~fed, end_s, np.inf).min(axis=1)
        done = np.where(runs, np.minimum(1.0, first_s[:, None] / np.maximum(end_s, 1e-9)), 0.0)
        work_s = ((1.0 - done) * self.gpu_s + np.where(runs, 0.0, self.cold_s)).sum(axis=1)
        path_s = ((1.0 - done) * self.shortest_s).max(axis=1)
        found: Floats = first_s + np.maximum(work_s / self.table.options.islands.sum(), path_s)
        return found


def _left_s(curve: Floats, share: Floats) -> Floats:
    """[U, K] seconds of serving left, the share [U] of the work being done."""
    last = curve.shape[2] - 1
    low = np.minimum((share * last).astype(np.int64), last - 1)
    units = np.arange(len(share))
    before, after = curve[units, :, low], curve[units, :, low + 1]
    found: Floats = curve[:, :, -1] - (before + (after - before) * (share * last - low)[:, None])
    return found


def _best(
    sets: list[tuple[float, int, tuple[int, ...]]], gpus: int
) -> list[tuple[float, int, tuple[int, ...]]]:
    """All, or the best of each number of GPUs."""
    if len(sets) <= MOST:
        return sets
    found = []
    for used in range(gpus + 1):
        some = [one for one in sets if one[1] == used]
        found += sorted(some, key=lambda one: -one[0])[: max(1, MOST // (gpus + 1))]
    return found
