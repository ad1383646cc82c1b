"""The rows of a run, in `outputs.jsonl` and `errors.jsonl`: appended to, read at an offset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import JournalError, Problem
from samullm_tui.journal.file import TAKEN_OVER, TakenOverError, disk_problem

__all__ = ["ErrorRow", "OutputRow", "RowFile", "read_row", "row_end"]


class OutputRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finished request, as the contract has it.

    `continued`: so many times another engine went on with the answer, drawing further tokens; absent where none did, or
    where nothing is drawn (temperature 0).
    """

    id: str
    node: str
    output: str
    output_token_ids: tuple[int, ...] | None = None
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    llm: str
    continued: int = 0


class ErrorRow(Struct, frozen=True, kw_only=True):
    """One request without an output. `error` holds no prompt."""

    id: str
    node: str
    error: str
    llm: str


Row = TypeVar("Row", OutputRow, ErrorRow)


class RowFile:
    """A file of JSON lines. Bytes behind `keep` are no results: they are cut off on opening."""

    def __init__(self, path: Path, keep: int) -> None:
        """Raises JournalError when the file cannot be opened, or is shorter than `keep`."""
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._descriptor).st_size < keep:
                raise JournalError(
                    Problem(str(path), f"byte {keep}", "rows that the journal has are not here")
                )
            os.ftruncate(self._descriptor, keep)
        except OSError as error:
            raise JournalError(Problem(str(path), "", error.strerror or str(error))) from error
        self.end = keep
        self._clean = True

    def append(self, rows: list[bytes]) -> None:
        """Durable on return. When it raises JournalError nothing counts, and the same rows may be given again.

        Raises TakenOverError, and writes nothing, when somebody else wrote since.
        """
        if self._clean and os.fstat(self._descriptor).st_size != self.end:
            raise TakenOverError(Problem(str(self.path), f"byte {self.end}", *TAKEN_OVER))
        self._clean = False
        try:
            end = self._write(memoryview(b"".join(rows)))
        except OSError as error:
            raise JournalError(disk_problem(self.path, f"byte {self.end}", error)) from error
        self._clean = True
        self.end = end

    def _write(self, data: memoryview) -> int:
        """Returns where it ends."""
        position = self.end
        while data:
            written = os.pwrite(self._descriptor, data, position)
            data = data[written:]
            position += written
        os.fdatasync(self._descriptor)
        return position

    def close(self) -> None:
        os.close(self._descriptor)


def read_row(path: Path, offset: int, kind: type[Row]) -> Row:
    """The row that begins at `offset`. Raises JournalError when there is none."""
    try:
        return msgspec.json.decode(_line(path, offset), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        wrong = "the journal points at a row that is not here"
        raise JournalError(Problem(str(path), f"byte {offset}", wrong)) from error


def row_end(path: Path, offset: int) -> int:
    """Where the row that begins at `offset` ends. Raises JournalError when it is not whole."""
    try:
        line = _line(path, offset)
    except OSError as error:
        raise JournalError(Problem(str(path), "", error.strerror or str(error))) from error
    if not line.endswith(b"\n"):
        raise JournalError(
            Problem(str(path), f"byte {offset}", "the journal points at a row that is not whole")
        )
    return offset + len(line)


def _line(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline()
