"""Which requests have ended, and where their rows stand: what resuming and exporting go by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished

__all__ = ["Committed", "Key", "committed"]

Key = tuple[str, str]
"""(node, id): ids are unique within a node."""


class Committed(NamedTuple):
    """Byte offsets of rows in the outputs file and in the errors file. No request is in both."""

    outputs: dict[Key, int]
    errors: dict[Key, int]


def committed(events: Iterable[AnyEvent]) -> Committed:
    """The requests that ended. A request ends once: should a journal say it again, the first time counts."""
    outputs: dict[Key, int] = {}
    errors: dict[Key, int] = {}
    for event in events:
        if isinstance(event, RequestFinished | RequestFailed):
            key = (event.node, event.id)
            if key not in outputs and key not in errors:
                (outputs if isinstance(event, RequestFinished) else errors)[key] = event.offset
    return Committed(outputs, errors)
