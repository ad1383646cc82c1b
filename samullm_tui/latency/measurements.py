"""Measured engine iterations as arrays, and the strict reader of their CSV form (contract: fit-latency)."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import Problem, ProfileError

__all__ = ["COLUMNS", "MIN_ROWS", "Iterations", "parse_iterations"]

FloatArray = npt.NDArray[np.float64]

COLUMNS = ("num_seqs", "prefill_tokens", "prefill_context", "decode_seqs", "decode_context", "latency_s")
MIN_ROWS = 20
"""Fewer rows cannot hold a fit of a dozen coefficients and rows to check it on."""

MOST = {
    "num_seqs": 1e6,
    "prefill_tokens": 1e7,
    "prefill_context": 1e14,
    "decode_seqs": 1e6,
    "decode_context": 1e9,
    "latency_s": 3600.0,
}
"""No step of any engine has more: a larger value is in another unit or a mistake."""
LEAST_S = 1e-7

MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Iterations:
    """`n` engine steps; every field is [n] float64.

    num_seqs         sequences in the step
    prefill_tokens   prompt tokens computed
    prefill_context  sum over prefill chunks of chunk tokens × mean context of the chunk
    decode_seqs      sequences past their prompt, one token each
    decode_context   context tokens held by those
    latency_s        seconds from this step to the next
    """

    num_seqs: FloatArray
    prefill_tokens: FloatArray
    prefill_context: FloatArray
    decode_seqs: FloatArray
    decode_context: FloatArray
    latency_s: FloatArray

    def __len__(self) -> int:
        return len(self.latency_s)

    def __getitem__(self, index: slice | npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Iterations:
        return Iterations(*(getattr(self, field.name)[index] for field in fields(self)))


def parse_iterations(text: str | bytes, file: str) -> Iterations:
    """The iterations of a CSV with a header that has at least COLUMNS, in any order.

    Raises ProfileError with every problem (up to 20), each naming the line of `file` and the column.
    """
    reader = csv.reader(_decoded(text, file).splitlines())
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ProfileError(Problem(file, f"line {reader.line_num}", f"not CSV: {error}")) from None
    if not rows:
        raise ProfileError(Problem(file, "line 1", "the file is empty", f"a header with {','.join(COLUMNS)}"))
    places = _places(rows[0][1], file)
    problems: list[Problem] = []
    values = [_row_values(row, places, file, line, problems) for line, row in rows[1:]]
    if not problems and len(values) < MIN_ROWS:
        wrong = f"{len(values)} rows of measurements"
        problems.append(Problem(file, "", wrong, f"at least {MIN_ROWS} are needed"))
    if problems:
        raise ProfileError(problems[:MAX_PROBLEMS])
    return Iterations(*np.asarray(values, dtype=np.float64).T.copy())


def _decoded(text: str | bytes, file: str) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise ProfileError(Problem(file, f"line {line}", "not UTF-8 text", "a CSV file")) from None


def _places(header: list[str], file: str) -> list[int]:
    """Where each of COLUMNS stands in the header."""
    names = [name.strip() for name in header]
    right = f"a header with {','.join(COLUMNS)}"
    problems = [
        Problem(
            file,
            "line 1",
            f"column {column} {'is missing' if column not in names else 'stands twice'}",
            right,
        )
        for column in COLUMNS
        if names.count(column) != 1
    ]
    if problems:
        raise ProfileError(problems)
    return [names.index(column) for column in COLUMNS]


def _row_values(
    row: list[str], places: list[int], file: str, line: int, problems: list[Problem]
) -> tuple[float, ...]:
    """The values of one row in the order of COLUMNS; what is wrong with them is added to `problems`."""
    before = len(problems)
    values = []
    for column, place in zip(COLUMNS, places, strict=True):
        text = row[place].strip() if place < len(row) else ""
        value = _number(text)
        if value is None:
            wrong = f"{text!r} is not a number" if text else "the value is missing"
            problems.append(Problem(file, f"line {line}, column {column}", wrong, "a number from 0 up"))
        values.append(value if value is not None else 0.0)
    if len(problems) == before:
        problems += [Problem(file, f"line {line}, column {c}", w, r) for c, w, r in _contradictions(values)]
    return tuple(values)


def _number(text: str) -> float | None:
    """A finite number from 0 up, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _contradictions(values: list[float]) -> list[tuple[str, str, str]]:
    """(column, what is wrong, what would be right) of one row of numbers from 0 up."""
    num_seqs, prefill_tokens, prefill_context, decode_seqs, decode_context, latency_s = values
    found = [
        (column, f"{value:g} is absurd for one step", f"at most {MOST[column]:g}")
        for column, value in zip(COLUMNS, values, strict=True)
        if value > MOST[column]
    ]
    if latency_s < LEAST_S:
        found.append(("latency_s", "a step that takes no time", f"at least {LEAST_S:g} seconds"))
    if prefill_tokens + decode_seqs == 0:
        found.append(
            ("prefill_tokens", "a step that computes nothing", "prefill_tokens or decode_seqs above 0")
        )
    if num_seqs < max(decode_seqs, 1):
        found.append(("num_seqs", f"{num_seqs:g} sequences", "at least 1, and at least decode_seqs"))
    elif num_seqs == decode_seqs and prefill_tokens > 0:
        found.append(("num_seqs", "no sequence for the prompt tokens", "more than decode_seqs"))
    if prefill_context > 0 and prefill_tokens == 0:
        found.append(("prefill_context", "context without prompt tokens", "0 where prefill_tokens is 0"))
    if decode_context > 0 and decode_seqs == 0:
        found.append(("decode_context", "context without decoding sequences", "0 where decode_seqs is 0"))
    return found
