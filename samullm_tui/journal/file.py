"""The file under a journal: opened whole, appended to, and never left with half a group after a failed write."""

from __future__ import annotations

import os
from pathlib import Path

from samullm_tui.domain.errors import JournalError, Problem
from samullm_tui.journal.framing import FrameScan, looks_framed

__all__ = ["CHUNK_BYTES", "TAKEN_OVER", "JournalFile", "TakenOverError", "disk_problem", "sync_folder"]

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

    `good_bytes` and `frames`: what is durable. `cut`: the bytes of the tail that were cut off.
    Raises JournalError when it cannot be opened, is no journal, or is damaged before its tail.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.good_bytes = 0
        self.frames = 0
        self.cut = b""
        self._clean = True
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
        self._clean = True
        self.good_bytes += len(data)
        self.frames += frames

    def close(self) -> None:
        os.close(self._fd)

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


def sync_folder(folder: Path) -> None:
    """Makes the names of the files in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
