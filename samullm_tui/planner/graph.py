"""Which LLM feeds which: the graph of the application with one vertex for each LLM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import RequestTable

__all__ = ["LLMGraph", "llm_graph"]


@dataclass(frozen=True, slots=True)
class LLMGraph:
    """`units` are the LLMs that have requests, sources first.

    LLMs that feed each other in a circle can only run together: they form one unit; every other LLM is a unit of
    its own. `sources[llm]` are the LLMs outside its unit that feed it directly.
    """

    units: tuple[tuple[int, ...], ...]
    sources: tuple[frozenset[int], ...]

    def unit_of(self, llm: int) -> tuple[int, ...]:
        return next(unit for unit in self.units if llm in unit)

    def unit_sources(self, unit: tuple[int, ...]) -> frozenset[int]:
        return frozenset().union(*(self.sources[llm] for llm in unit))


def llm_graph(table: RequestTable, done: npt.NDArray[np.bool_] | None = None) -> LLMGraph:
    """The graph of the LLMs of `table`, from the parents of its requests: of those that are not `done` [n]."""
    count = len(table.llm_names)
    feeds = np.zeros((count, count), dtype=bool)
    children = np.repeat(table.llm, np.diff(table.parent_start))
    awaited = np.full(len(table.parents), True) if done is None else ~done[table.parents]
    feeds[table.llm[table.parents[awaited]], children[awaited]] = True
    reach = _closure(feeds)
    together = reach & reach.T
    present = np.unique(table.llm)
    units = {tuple(sorted({int(llm), *np.flatnonzero(together[llm]).tolist()})) for llm in present}
    order = sorted(units, key=lambda unit: (_ancestors(reach, unit), unit))
    sources = tuple(_sources(feeds, together, llm) for llm in range(count))
    return LLMGraph(tuple(order), sources)


def _closure(feeds: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether a path of one or more edges leads from row to column (Warshall's algorithm)."""
    reach = feeds.copy()
    for middle in range(len(reach)):
        reach |= np.outer(reach[:, middle], reach[middle])
    return reach


def _ancestors(reach: npt.NDArray[np.bool_], unit: tuple[int, ...]) -> int:
    """How many LLMs outside the unit lead to it: more for every unit than for its sources."""
    return len(set(np.flatnonzero(reach[:, list(unit)].any(axis=1)).tolist()) - set(unit))


def _sources(feeds: npt.NDArray[np.bool_], together: npt.NDArray[np.bool_], llm: int) -> frozenset[int]:
    direct = feeds[:, llm] & ~together[:, llm]
    direct[llm] = False
    return frozenset(np.flatnonzero(direct).tolist())
