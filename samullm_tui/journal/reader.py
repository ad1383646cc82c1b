"""Reading journals: a finished one, a recording, or one that still grows.

A torn tail (the last write of a process that died) ends the events without an error; it never becomes an event.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from samullm_tui.domain.errors import JournalError, Problem, RecordingError
from samullm_tui.domain.event import AnyEvent, RunCreated
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.journal.codec import FORMAT, decode
from samullm_tui.journal.compressed import DAMAGED, SUFFIX, open_compressed
from samullm_tui.journal.file import CHUNK_BYTES
from samullm_tui.journal.framing import FrameScan, looks_framed, unframe
from samullm_tui.journal.segments import closed_file, is_missing, open_segment

__all__ = ["JOURNAL", "JournalTail", "journal_file", "read_events"]

JOURNAL = "journal.jsonl"
RIGHT = "a journal of this program: a run's folder, its journal.jsonl, or that compressed as .zst"


def journal_file(path: Path) -> Path:
    """The journal itself: `path`, or the one in the run's folder `path`."""
    return path / JOURNAL if path.is_dir() else path


def read_events(path: Path) -> Iterator[AnyEvent]:
    """The events of a journal with all its segments, of a folder's journal, or of a `.zst` of one.

    An empty file has none. Raises RecordingError when the file cannot be read, is no journal, or is damaged before
    its tail.
    """
    file = journal_file(path)
    number, is_live = 0, False
    while not is_live:
        first, scan = number, FrameScan()
        stream, is_live = _open(file, number)
        with stream:
            while chunk := _read(stream, CHUNK_BYTES, file):
                for payload in scan.feed(chunk):
                    yield _event(payload, file, number)
                    number += 1
                if scan.damaged:
                    raise RecordingError(_damage(file, f"byte {scan.good_bytes}"))
        if not is_live:
            _check_closed(file, first, number, scan.rest)
    if not scan.good_bytes and not looks_framed(scan.rest):
        raise RecordingError(Problem(str(file), "byte 0", "not a journal", RIGHT))


def _open(file: Path, first: int) -> tuple[BinaryIO, bool]:
    """The segment that begins with this event, and whether it is the last. Raises RecordingError."""
    try:
        if file.suffix == SUFFIX:
            return open_compressed(file), True
        stream, is_live = open_segment(file, first)
    except FileNotFoundError as error:
        # Between the end of one segment and the beginning of the next there is no live file for an instant.
        if first:
            return BytesIO(), True
        raise _unreadable(file, error) from error
    except OSError as error:
        raise _unreadable(file, error) from error
    if is_live and is_missing(file, first):
        stream.close()
        raise RecordingError(_damage(file, f"line {first + 1}", "a segment of the journal is missing"))
    return stream, is_live


def _read(stream: BinaryIO, size: int, file: Path) -> bytes:
    try:
        return stream.read(size)
    except DAMAGED as error:
        raise RecordingError(Problem(str(file), "", "not a whole Zstandard file", RIGHT)) from error
    except OSError as error:
        raise _unreadable(file, error) from error


def _check_closed(file: Path, first: int, end: int, rest: bytes) -> None:
    """A segment was closed after a whole frame. Raises RecordingError."""
    if rest or first == end:
        raise RecordingError(_damage(closed_file(file, first), f"line {end - first + 1}"))


def _damage(file: Path, place: str, wrong: str = "the journal is damaged") -> Problem:
    return Problem(str(file), place, wrong, "an undamaged copy of it")


def _unreadable(file: Path, error: OSError) -> RecordingError:
    return RecordingError(Problem(str(file), "", error.strerror or str(error), RIGHT))


def _event(payload: bytes, file: Path, number: int) -> AnyEvent:
    try:
        event = decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong = f"not an event of this version ({sanitise_line(str(error), 200)})"
        raise RecordingError(Problem(str(file), f"line {number + 1}", wrong, RIGHT)) from error
    if isinstance(event, RunCreated) and event.format > FORMAT:
        wrong = f"written by a newer version of this program ({sanitise_line(event.version, 20)})"
        raise RecordingError(Problem(str(file), f"line {number + 1}", wrong, "that version or a newer one"))
    return event


class JournalTail:
    """Follows a journal that still grows; `path` is a file or a run's folder and need not exist yet.

    Nothing is kept of a frame that is half there: it is read again, so a writer may cut it off and write anew.
    `events`: how many were seen. `good_bytes`: how much of the present segment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.good_bytes = 0
        self.events = 0
        self._first = 0
        self._closed: BinaryIO | None = None

    def poll(self, max_bytes: int = -1) -> list[AnyEvent]:
        """The events that became whole since the last call.

        With `max_bytes` (at least one frame) not more than that is read: call again while there are events.
        Raises RecordingError when it cannot be read or holds something else, JournalError when it is damaged.
        """
        file = journal_file(self.path)
        events: list[AnyEvent] = []
        while True:
            data, is_live = self._next(file, max_bytes)
            events += self._take(data, file, is_live=is_live)
            if is_live or (events and max_bytes >= 0):
                return events
            if not data:
                _check_closed(file, self._first, self.events, b"")
                self._first, self.good_bytes, self._closed = self.events, 0, None

    def new(self) -> Iterator[AnyEvent]:
        """All events that became whole since the last call, a part of the journal in memory at a time. Raises as `poll`."""
        while events := self.poll(CHUNK_BYTES):
            yield from events

    def _take(self, data: bytes, file: Path, *, is_live: bool) -> list[AnyEvent]:
        frames = unframe(data)
        if frames.rest == "damaged" or (frames.rest == "torn" and not is_live):
            raise JournalError(_damage(file, f"byte {self.good_bytes + frames.good_bytes}"))
        if not self.good_bytes and not frames.good_bytes and not looks_framed(data):
            raise RecordingError(Problem(str(file), "byte 0", "not a journal", RIGHT))
        events = [_event(payload, file, self.events + k) for k, payload in enumerate(frames.payloads)]
        self.good_bytes += frames.good_bytes
        self.events += len(events)
        return events

    def _next(self, file: Path, max_bytes: int) -> tuple[bytes, bool]:
        """What comes in the present segment, and whether that is the live one. Closed ones stay open until they end."""
        if self._closed is None:
            try:
                stream, is_live = _open(file, self._first)
            except RecordingError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    return b"", True
                raise
            stream.seek(self.good_bytes)
            if is_live:
                with stream:
                    return _bite(stream, max_bytes, file), True
            self._closed = stream
        return _bite(self._closed, max_bytes, file), False


def _bite(stream: BinaryIO, max_bytes: int, file: Path) -> bytes:
    data = _read(stream, max_bytes, file)
    # A frame longer than max_bytes must not hold the tail up for ever.
    return data + stream.readline() if max_bytes >= 0 and not data.endswith(b"\n") else data
