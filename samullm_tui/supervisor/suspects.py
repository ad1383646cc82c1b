"""Which requests may be what kills engines, and which one is: found by halving. Pure bookkeeping.

A request that was in flight at two deaths of engines is a suspect: chance seldom hits twice. Suspects are tried in
groups, each alone on an engine. When that dies too, its group is halved; when the group was one request, that is it.
A request that finishes is no suspect any more. So n requests in flight take about log2(n) deaths to find the one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["MAX_CONVICTED", "Suspects", "Verdict"]

SUSPECT_DEATHS = 2
MAX_CONVICTED = 3
"""After so many in a row without a request that finished, it is the engine that is broken, not the requests."""


class Verdict(NamedTuple):
    """What the death of an engine says about the requests that it had.

    guilty   one that was alone on its engine, after other engines had died with it in flight
    groups   the suspects, to be tried apart from each other and from everything else
    """

    guilty: int | None
    groups: tuple[tuple[int, ...], ...]


class Suspects:
    def __init__(self) -> None:
        self.deaths: Counter[int] = Counter()
        """Of each open request: how many engines died with it in flight."""
        self._convicted: Counter[str] = Counter()

    def engine_died(self, llm: str, requests: Sequence[int]) -> Verdict:
        """`requests`: what the engine had when it died."""
        self.deaths.update(requests)
        suspects = tuple(index for index in requests if self.deaths[index] >= SUSPECT_DEATHS)
        if len(requests) == 1 and self.deaths[requests[0]] > SUSPECT_DEATHS:
            self._convicted[llm] += 1
            return Verdict(suspects[0], ())
        half = (len(suspects) + 1) // 2
        return Verdict(None, tuple(group for group in (suspects[:half], suspects[half:]) if group))

    def finished(self, llm: str, index: int) -> None:
        """A request has its output: it does not kill, and its LLM's engines work."""
        self.ended(index)
        del self._convicted[llm]

    def ended(self, index: int) -> None:
        del self.deaths[index]

    def is_broken(self, llm: str) -> bool:
        """Whether every request that is tried alone kills the engines of this LLM."""
        return self._convicted[llm] >= MAX_CONVICTED
