"""Reading journals: a finished one, a recording, or one that still grows.

A torn tail (the last write of a process that died) ends the events without an error; it never becomes an event.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from samullm_tui.domain.errors import JournalError, Problem, RecordingError
from samullm_tui.domain.event import AnyEvent
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.journal.codec import decode
from samullm_tui.journal.file import CHUNK_BYTES
from samullm_tui.journal.framing import FrameScan, looks_framed, unframe

__all__ = ["JOURNAL", "JournalTail", "journal_file", "read_events"]

JOURNAL = "journal.jsonl"
RIGHT = "a journal of this program: a run's folder, its journal.jsonl, or that compressed as .gz"


def journal_file(path: Path) -> Path:
    """The journal itself: `path`, or the one in the run's folder `path`."""
    return path / JOURNAL if path.is_dir() else path


def read_events(path: Path) -> Iterator[AnyEvent]:
    """The events of a journal file, of a folder's journal, or of a `.gz` of one. An empty file has none.

    Raises RecordingError when the file cannot be read, is no journal, or is damaged before its tail.
    """
    file = journal_file(path)
    scan = FrameScan()
    number = 0
    for chunk in _chunks(file):
        for payload in scan.feed(chunk):
            yield _event(payload, file, number)
            number += 1
        if scan.damaged:
            raise RecordingError(
                Problem(
                    str(file), f"byte {scan.good_bytes}", "the journal is damaged", "an undamaged copy of it"
                )
            )
    if not number and not looks_framed(scan.rest):
        raise RecordingError(Problem(str(file), "byte 0", "not a journal", RIGHT))


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecordingError(Problem(str(file), "", "not a whole gzip file", RIGHT)) from error
    except OSError as error:
        raise RecordingError(Problem(str(file), "", error.strerror or str(error), RIGHT)) from error


def _event(payload: bytes, file: Path, number: int) -> AnyEvent:
    try:
        return decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong = f"not an event of this version ({sanitise_line(str(error), 200)})"
        raise RecordingError(Problem(str(file), f"line {number + 1}", wrong, RIGHT)) from error


class JournalTail:
    """Follows a journal that still grows; `path` is a file or a run's folder and need not exist yet.

    Nothing is kept of a frame that is half there: it is read again, so a writer may cut it off and write anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.good_bytes = 0
        self.events = 0

    def poll(self, max_bytes: int = -1) -> list[AnyEvent]:
        """The events that became whole since the last call.

        With `max_bytes` (at least one frame) not more than that is read: call again while there are events.
        Raises RecordingError when it cannot be read or holds something else, JournalError when it is damaged.
        """
        file = journal_file(self.path)
        data = self._read(file, max_bytes)
        frames = unframe(data)
        if frames.rest == "damaged":
            place = f"byte {self.good_bytes + frames.good_bytes}"
            raise JournalError(Problem(str(file), place, "the journal is damaged", "an undamaged copy of it"))
        if not self.good_bytes and not frames.good_bytes and not looks_framed(data):
            raise RecordingError(Problem(str(file), "byte 0", "not a journal", RIGHT))
        events = [_event(payload, file, self.events + k) for k, payload in enumerate(frames.payloads)]
        self.good_bytes += frames.good_bytes
        self.events += len(events)
        return events

    def _read(self, file: Path, max_bytes: int) -> bytes:
        try:
            with file.open("rb") as stream:
                stream.seek(self.good_bytes)
                data = stream.read(max_bytes)
                # A frame longer than max_bytes must not hold the tail up for ever.
                return data + stream.readline() if max_bytes >= 0 and not data.endswith(b"\n") else data
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RecordingError(Problem(str(file), "", error.strerror or str(error), RIGHT)) from error
