"""A list of requests with known lengths (CSV), as `simulate` takes it."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.request import IntArray

__all__ = ["RequestList", "read_request_list"]

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
SHOWN = 20


@dataclass(frozen=True)
class RequestList:
    """`n` requests: ids, arrival [s], prompt and output tokens, each [n]."""

    ids: tuple[str, ...]
    arrival_s: npt.NDArray[np.float64]
    prompt_tokens: IntArray
    output_tokens: IntArray


def read_request_list(path: Path) -> RequestList:
    """Reads `arrival_s,prompt_tokens,output_tokens` (`id` optional). Raises InputError with every bad place."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse(csv.DictReader(file, strict=True), str(path))
    except OSError as error:
        raise InputError(Problem(str(path), "", error.strerror or str(error), "a CSV file")) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(Problem(str(path), "", f"not CSV in UTF-8: {error}")) from error


def _parse(rows: csv.DictReader[str], name: str) -> RequestList:
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        wanted = f"the columns {', '.join(COLUMNS)} (and id, if you like)"
        raise InputError(Problem(name, "line 1", f"no column {', '.join(missing)}", wanted))
    problems: list[Problem] = []
    ids: list[str] = []
    values: list[tuple[float, ...]] = []
    for row in rows:
        place = f"line {rows.line_num}"
        numbers = [_number(row[column], column, name, place, problems) for column in COLUMNS]
        ids.append(row.get("id") or str(len(ids)))
        values.append(tuple(numbers))
        if len(problems) > SHOWN:
            break
    problems += _duplicates(ids, name)
    if problems:
        raise InputError(problems)
    table = np.array(values, dtype=np.float64).reshape(len(values), len(COLUMNS))
    return RequestList(
        tuple(ids), table[:, 0].copy(), table[:, 1].astype(np.int64), table[:, 2].astype(np.int64)
    )


RULES: dict[str, tuple[Callable[[float], bool], str]] = {
    "arrival_s": (lambda x: x >= 0, "seconds, 0 or more"),
    "prompt_tokens": (lambda x: x >= 1 and x == int(x), "a whole number, 1 or more"),
    "output_tokens": (lambda x: x >= 1 and x == int(x), "a whole number, 1 or more"),
}


def _number(text: str | None, column: str, name: str, place: str, problems: list[Problem]) -> float:
    good, right = RULES[column]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and good(value)):
        problems.append(Problem(name, f"{place}, {column}", f"{text!r}", right))
        return 1.0
    return value


def _duplicates(ids: Iterable[str], name: str) -> list[Problem]:
    twice = [i for i, count in Counter(ids).items() if count > 1]
    return [Problem(name, "id", f"{i!r} stands there more than once", "each id once") for i in twice[:SHOWN]]
