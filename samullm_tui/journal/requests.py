"""Which requests have ended, and where their rows stand: what resuming goes by."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished

__all__ = ["Committed", "Key", "committed"]

Key = tuple[str, str]
"""(node, id): ids are unique within a node."""

ERROR = -1


class Committed:
    """The requests that ended, numbered from 0 in the order of their ends. A million fit: each is a name and four numbers.

    numbers  for each node the numbers of its requests, by id
    offsets  by number: where the row stands, in the outputs file or in the errors file
    tokens   by number: output tokens, ERROR (-1) of an error row
    at_s     by number: when it ended
    cut      by number: 1 where max_tokens or the context ended the answer, so that it might have been longer
    """

    def __init__(self) -> None:
        self.numbers: dict[str, dict[str, int]] = {}
        self.offsets = array("q")
        self.tokens = array("q")
        self.at_s = array("d")
        self.cut = array("b")

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, event: RequestFinished | RequestFailed) -> None:
        """A request ends once: should a journal say it again, the first time counts."""
        numbers = self.numbers.setdefault(event.node, {})
        if event.id not in numbers:
            numbers[event.id] = len(self)
            self.offsets.append(event.offset)
            self.tokens.append(event.output_tokens if isinstance(event, RequestFinished) else ERROR)
            self.at_s.append(event.at_s)
            self.cut.append(isinstance(event, RequestFinished) and event.finish_reason == "length")

    def ends(self) -> Iterator[tuple[Key, int]]:
        """Each request that ended, with its number; node by node."""
        for node, numbers in self.numbers.items():
            for name, number in numbers.items():
                yield (node, name), number


def committed(events: Iterable[AnyEvent]) -> Committed:
    """The requests that ended by these events."""
    found = Committed()
    for event in events:
        if isinstance(event, RequestFinished | RequestFailed):
            found.add(event)
    return found
