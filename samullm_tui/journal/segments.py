"""The files of one journal. The live one is appended to; when it has grown it is closed and a new one begun.

`journal.jsonl` is the live segment, `journal.000000012345.jsonl.zst` a closed one: the number is that of its first event.
A segment is closed by renaming it, compressed beside itself, and only then removed, so that after a crash at any moment
every event stands in exactly one place: a closed segment that is there in both forms is the same twice.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from samullm_tui.journal.compressed import SUFFIX, compress_into, open_compressed

__all__ = [
    "closed_file",
    "closed_segments",
    "compress",
    "is_compressed",
    "is_missing",
    "open_segment",
    "sync_folder",
]

CLOSED = re.compile(rf"\.(\d{{12}})(\.jsonl)({re.escape(SUFFIX)})?")


def closed_file(journal: Path, first: int) -> Path:
    """The file, not compressed, of the closed segment whose first event has this number."""
    return journal.with_name(f"{journal.stem}.{first:012d}.jsonl")


def closed_segments(journal: Path) -> list[int]:
    """The numbers of the first events of the closed segments, in their order."""
    numbers = set()
    for path in journal.parent.glob(f"{journal.stem}.*"):
        match = CLOSED.fullmatch(path.name.removeprefix(journal.stem))
        if match:
            numbers.add(int(match[1]))
    return sorted(numbers)


def is_compressed(closed: Path) -> bool:
    return not closed.exists()


def is_missing(journal: Path, first: int) -> bool:
    """Whether later segments were closed, and the one whose first event has this number is nowhere."""
    if all(closed <= first for closed in closed_segments(journal)):
        return False
    # Looked for after the later ones were seen: a writer that closed them had closed it before.
    closed = closed_file(journal, first)
    return not closed.exists() and not _compressed(closed).exists()


def open_segment(journal: Path, first: int) -> tuple[BinaryIO, bool]:
    """The segment whose first event has this number, and whether it is the live one. Raises OSError.

    A writer may close or compress segments meanwhile.
    """
    closed = closed_file(journal, first)
    segment = _open_closed(closed)
    if segment is None:
        live = journal.open("rb")
        # Was it still the live one? It is renamed before there is a new one.
        segment = _open_closed(closed)
        if segment is None:
            return live, True
        live.close()
    return segment, False


def _open_closed(closed: Path) -> BinaryIO | None:
    """In whichever form it is there: the one that is not compressed goes only when the other is there."""
    try:
        return closed.open("rb")
    except FileNotFoundError:
        pass
    try:
        return open_compressed(_compressed(closed))
    except FileNotFoundError:
        return None


def compress(closed: Path) -> None:
    """Replaces a closed segment by its compressed form. May be interrupted at any moment, and done again."""
    target = _compressed(closed)
    part = target.with_name(f"{target.name}.part")
    with closed.open("rb") as source, open(part, "wb", opener=_private) as file:
        compress_into(source, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
    sync_folder(closed.parent)
    closed.unlink()


def _compressed(closed: Path) -> Path:
    return closed.with_name(f"{closed.name}{SUFFIX}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """Makes the names of the files in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
