"""Reads data sets, one line at a time: JSONL, OpenAI batch files, CSV, and drawn (synthetic) ones.

A record's fields are as the data has them: texts, numbers, true or false, lists. In a synthetic data set a field is
a number of tokens, a label (text), or a list of numbers of tokens.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, overload

import msgspec

from samullm_tui.domain.application import DataSet
from samullm_tui.workload.batch import batch_fields
from samullm_tui.workload.problems import Problems, shown
from samullm_tui.workload.synthetic import synthetic_columns

__all__ = ["LINE_BYTES", "Record", "all_records", "scan_records", "scan_rows"]

LINE_BYTES = 32 * 1024 * 1024
"""A longer line is refused."""

ID_CHARACTERS = 256


Rows = Iterator[tuple[int, dict[str, object]]]


class Record(msgspec.Struct, frozen=True):
    """One record. `line` is where it begins in its file; 0 when it was drawn."""

    id: str
    fields: dict[str, object]
    line: int = 0

    @property
    def place(self) -> str:
        return f"line {self.line}, record {shown(self.id)}" if self.line else f"record {shown(self.id)}"


def scan_records(data: DataSet, problems: Problems, line_bytes: int = LINE_BYTES) -> Iterator[Record]:
    """The records that are right; the others are reported. Holds one line at a time."""
    if data.file is None:
        yield from _drawn(data, problems)
        return
    seen: dict[str, int] = {}
    for line, fields in scan_rows(Path(data.file), problems, line_bytes):
        record = _record(line, fields, seen, problems)
        if record is not None:
            yield record
    if not seen and not problems:
        problems.add("", "has no records", "one record a line")


def all_records(data: DataSet, problems: Problems) -> Sequence[Record]:
    """The same at once: those of a file are held, drawn ones are made when they are asked for."""
    return _drawn(data, problems) if data.file is None else list(scan_records(data, problems))


def scan_rows(path: Path, problems: Problems, line_bytes: int = LINE_BYTES) -> Rows:
    """Line number and fields of each row of a JSONL or CSV file; those that are no rows are reported."""
    rows = _csv_rows if path.suffix.lower() == ".csv" else _json_rows
    try:
        with path.open("rb") as file:
            yield from rows(file, problems, line_bytes)
    except OSError as error:
        problems.add("", f"cannot be read: {error.strerror}")


def _json_rows(file: BinaryIO, problems: Problems, line_bytes: int) -> Rows:
    decode: Callable[[bytes], object] = msgspec.json.Decoder().decode
    for number, line in _lines(file, problems, line_bytes):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            problems.add(f"line {number}", *_json_mistake(line, error))
            continue
        if not isinstance(row, dict):
            problems.add(f"line {number}", "not a JSON object", 'such as {"id": "1", "text": "…"}')
        elif isinstance(row.get("body"), dict) and "custom_id" in row:
            if (fields := batch_fields(row, f"line {number}", problems)) is not None:
                yield number, fields
        else:
            yield number, row


def _json_mistake(line: bytes, error: Exception) -> tuple[str, str]:
    if not _is_utf8(line):
        return "not UTF-8", "save the file as UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply", "a JSON object of texts, numbers and lists"
    for word in (b"NaN", b"Infinity"):
        if word in line:
            return f"not JSON: {word.decode()} perhaps ({error})", "a number, or leave the field out"
    return f"not JSON: {error}", "one JSON object a line"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _csv_rows(file: BinaryIO, problems: Problems, line_bytes: int) -> Rows:
    csv.field_size_limit(max(csv.field_size_limit(), line_bytes))
    reader = csv.reader(_texts(file, problems, line_bytes), strict=True)
    start = 1
    try:
        header = next(reader, [])
        if len(set(header)) < len(header) or not all(name.strip() for name in header):
            problems.add(
                "line 1", "the header has an empty name or a name twice", "a name of its own for each column"
            )
            return
        start = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(header):
                problems.add(f"line {start}", f"{len(row)} values", f"{len(header)}, as the header has")
            elif row:
                yield start, dict(zip(header, row, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        problems.add(
            f"line {start}", f"not CSV: {error}", "values with quotes or line breaks stand in double quotes"
        )
    except UnicodeDecodeError:
        problems.add(f"line {reader.line_num + 1}", "not UTF-8", "save the file as UTF-8")


def _texts(file: BinaryIO, problems: Problems, line_bytes: int) -> Iterator[str]:
    for _, line in _lines(file, problems, line_bytes):
        yield line.decode()


def _lines(file: BinaryIO, problems: Problems, line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without a byte-order mark. One that is too long is reported, and skipped without holding it."""
    number = 0
    while line := file.readline(line_bytes + 1):
        number += 1
        if number == 1:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                problems.add("line 1", "not UTF-8 but UTF-16", "save the file as UTF-8")
                return
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) <= line_bytes:
            yield number, line
            continue
        problems.add(f"line {number}", f"longer than {line_bytes // 1024**2} MiB", "shorter records")
        while line and not line.endswith(b"\n"):
            line = file.readline(line_bytes)


def _record(line: int, fields: dict[str, object], seen: dict[str, int], problems: Problems) -> Record | None:
    """Its id is `id` or `custom_id`, else the number of its line."""
    given = fields.get("id", fields.get("custom_id", line))
    name = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > ID_CHARACTERS:
        right = f"a text of 1 to {ID_CHARACTERS} printable characters, or a whole number"
        problems.add(f"line {line}", f"{shown(given)} is not an id", right)
        return None
    if name in seen:
        problems.add(
            f"line {line}", f"the id {shown(name)} stands in line {seen[name]} already", "an id of its own"
        )
        return None
    seen[name] = line
    return Record(name, fields, line)


class DrawnRecords(Sequence[Record]):
    """The records of a synthetic data set: columns of numbers and labels, and a record only for whoever asks for it."""

    def __init__(self, columns: Mapping[str, Sequence[object]]) -> None:
        self._columns = columns
        self._records = range(len(next(iter(columns.values()), ())))

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[k] for k in self._records[index]]
        k = self._records[index]
        return Record(f"{k + 1:04}", {name: column[k] for name, column in self._columns.items()})


def _drawn(data: DataSet, problems: Problems) -> Sequence[Record]:
    assert data.synthetic is not None
    try:
        return DrawnRecords(synthetic_columns(data.synthetic))
    except OverflowError as error:
        problems.add(
            f"data.{data.name}.synthetic", f"a list field has {error}", "fewer records or shorter lists"
        )
        return ()
