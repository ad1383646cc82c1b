"""The outputs of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from samullm_tui.domain.errors import JournalError, Problem
from samullm_tui.domain.event import RequestFinished
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.spec import existing_run

__all__ = ["export_rows"]


def export_rows(run: str) -> Iterator[dict[str, object]]:
    """Each committed output exactly once, in the order of their commits; of a running run those so far.

    Rows have the keys of the contract. Raises RunNotFoundError at once, and while iterating RecordingError for a
    damaged journal and JournalError when a row that it points at is not there.
    """
    paths = existing_run(run)
    return _rows(paths.journal, paths.outputs)


def _rows(journal: Path, outputs: Path) -> Iterator[dict[str, object]]:
    seen: dict[str, set[str]] = {}
    if not outputs.exists():
        return
    with outputs.open("rb") as file:
        for event in read_events(journal):
            if not isinstance(event, RequestFinished):
                continue
            ids = seen.setdefault(event.node, set())
            if event.id in ids:
                continue
            ids.add(event.id)
            # Rows are committed in their order in the file: this seldom seeks.
            if file.tell() != event.offset:
                file.seek(event.offset)
            yield _row(file.readline(), event, outputs)


def _row(line: bytes, event: RequestFinished, outputs: Path) -> dict[str, object]:
    try:
        row = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        row = {}
    if (row.get("node"), row.get("id")) != (event.node, event.id):
        wrong = f"the row of {event.node} {event.id} is not here"
        raise JournalError(Problem(str(outputs), f"byte {event.offset}", wrong))
    return row
