"""The live segment of a journal: opened whole, appended to, and never left with half a group after a failed write."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from samullm_tui.domain.errors import JournalError, Problem
from samullm_tui.journal.framing import FrameScan, looks_framed
from samullm_tui.journal.segments import closed_file, closed_segments, open_segment, sync_folder

__all__ = ["CHUNK_BYTES", "TAKEN_OVER", "JournalFile", "TakenOverError", "disk_problem"]

CHUNK_BYTES = 4 * 1024**2
TAKEN_OVER = ("somebody else writes to it", "one supervisor for a run: this one ends")


class TakenOverError(JournalError):
    """Another process writes to the files of the run: this one must not any more."""


def disk_problem(path: Path, place: str, error: OSError) -> Problem:
    """Why a file could not be written, and on which file system that is."""
    mount = next((folder for folder in path.absolute().parents if folder.is_mount()), Path("/"))
    wrong = f"{error.strerror or error} (on the file system {mount})"
    return Problem(str(path), place, wrong, "space and a writable file system")


class JournalFile:
    """Opens or creates `path` (0600) for appending, cutting a torn tail off.

    `good_bytes` (of the live segment) and `frames` (of all segments): what is durable. `cut`: the bytes of the tail
    that were cut off.
    Raises JournalError when it cannot be opened, is no journal, or is damaged before its tail.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.good_bytes = 0
        self.cut = b""
        self._clean = True
        self._is_named = True
        self._first = self.frames = self._closed_frames()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise self._error("", error.strerror or str(error)) from error
        try:
            os.fchmod(self._fd, 0o600)
            self._recover()
        except OSError as error:
            self.close()
            raise self._error("", error.strerror or str(error)) from error
        except JournalError:
            self.close()
            raise

    def write(self, data: bytes, frames: int) -> None:
        """Appends `frames` frames and waits for the disk. After an OSError none of them counts: write them again.

        Raises TakenOverError, and writes nothing, when somebody else wrote since.
        """
        if not self._clean:
            self._restore()
        if os.fstat(self._fd).st_size != self.good_bytes:
            raise TakenOverError(Problem(str(self.path), f"byte {self.good_bytes}", *TAKEN_OVER))
        self._clean = False
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        # After a failed fdatasync the kernel may hold pages for clean that never reached the disk,
        # so that group is written anew as well.
        os.fdatasync(self._fd)
        if not self._is_named:
            sync_folder(self.path.parent)
        self._clean = self._is_named = True
        self.good_bytes += len(data)
        self.frames += frames

    def rotate(self) -> Path | None:
        """Closes the segment and begins a new one; returns the closed file. None: not possible now, and nothing changed.

        May only follow a write that succeeded.
        """
        fresh, closed = self.path.with_name(f"{self.path.name}.new"), closed_file(self.path, self._first)
        try:
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        except OSError:
            return None
        try:
            self._rename(fresh, closed)
        except OSError:
            os.close(descriptor)
            return None
        os.close(self._fd)
        self._fd, self._is_named = descriptor, False
        self._first, self.good_bytes = self.frames, 0
        return closed

    def _rename(self, fresh: Path, closed: Path) -> None:
        os.rename(self.path, closed)  # noqa: PTH104  # the crash tests count these calls
        try:
            os.rename(fresh, self.path)  # noqa: PTH104
        except OSError:
            os.rename(closed, self.path)  # noqa: PTH104
            raise

    def close(self) -> None:
        os.close(self._fd)

    def _closed_frames(self) -> int:
        """How many events stand in the closed segments: the name of the last one says how many came before it."""
        closed = closed_segments(self.path)
        if not closed:
            return 0
        file, scan, frames = closed_file(self.path, closed[-1]), FrameScan(), closed[-1]
        try:
            segment, _ = open_segment(self.path, closed[-1])
            with segment:
                while not scan.damaged and (chunk := segment.read(CHUNK_BYTES)):
                    frames += len(scan.feed(chunk))
        except (OSError, EOFError, zlib.error) as error:
            raise JournalError(Problem(str(file), "", f"cannot be read: {error}")) from error
        if scan.damaged or scan.rest:
            raise JournalError(Problem(str(file), f"byte {scan.good_bytes}", "the journal is damaged"))
        return frames

    def _restore(self) -> None:
        os.ftruncate(self._fd, self.good_bytes)
        self._clean = True

    def _recover(self) -> None:
        scan = self._scan()
        self.good_bytes = scan.good_bytes
        if scan.damaged:
            right = "whole frames follow behind it: restore the file, or cut it here to give them up"
            raise self._error(f"byte {scan.good_bytes}", "the journal is damaged", right)
        if not scan.good_bytes and not looks_framed(scan.rest):
            raise self._error("byte 0", "this is not a journal", "a file that this program wrote")
        self.cut = scan.rest
        if self.cut:
            self._restore()
        os.fsync(self._fd)
        sync_folder(self.path.parent)

    def _scan(self) -> FrameScan:
        scan = FrameScan()
        position = 0
        while not scan.damaged and (chunk := os.pread(self._fd, CHUNK_BYTES, position)):
            self.frames += len(scan.feed(chunk))
            position += len(chunk)
        return scan

    def _error(self, place: str, wrong: str, right: str = "") -> JournalError:
        return JournalError(Problem(str(self.path), place, wrong, right))
