"""Columns that grow by one and take no Python object an entry: a million requests must fit."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import overload

__all__ = ["Names", "Ranges"]


class Names(Sequence[str]):
    """Texts, one behind the other in one buffer."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, name: str) -> None:
        self._bytes += name.encode()
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        return self._bytes[self._ends[k] : self._ends[k + 1]].decode()


class Ranges:
    """For each record the range of its requests; none where it has none. Records come in their order."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._stops = array("q")

    def add(self, record: int, requests: range) -> None:
        """`record` comes after all that were added."""
        gap = array("q", [0]) * (record - len(self._starts))
        self._starts.extend(gap)
        self._stops.extend(gap)
        self._starts.append(requests.start)
        self._stops.append(requests.stop)

    def get(self, record: int) -> range | None:
        if record >= len(self._starts) or self._starts[record] == self._stops[record]:
            return None
        return range(self._starts[record], self._stops[record])
