"""A list of requests with known lengths (CSV), as `simulate` takes it."""

from __future__ import annotations

import csv
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.request import IntArray

__all__ = ["RequestList", "read_request_list"]

COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
OPTIONAL = ("max_tokens", "prefix", "prefix_tokens", "priority")
SHOWN = 20
LARGEST = 2**53
"""Whole numbers are read as floats: up to here each of them is itself."""


@dataclass(frozen=True)
class RequestList:
    """`n` requests: ids, arrival [s], prompt and output tokens, each [n].

    options  what else the file says, each [n]: max_tokens, prefix, prefix_tokens, priority
    """

    ids: Sequence[str]
    arrival_s: npt.NDArray[np.float64]
    prompt_tokens: IntArray
    output_tokens: IntArray
    options: dict[str, IntArray]

    def __len__(self) -> int:
        return len(self.prompt_tokens)


class Numbers(Sequence[str]):
    """The ids of a file that gives none: "0", "1", … without an object for each."""

    def __init__(self, numbers: range) -> None:
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Numbers: ...
    def __getitem__(self, index: int | slice) -> str | Numbers:
        return Numbers(self._numbers[index]) if isinstance(index, slice) else str(self._numbers[index])


def read_request_list(path: Path) -> RequestList:
    """Reads `arrival_s,prompt_tokens,output_tokens` and, where they are there, `id,max_tokens,prefix,prefix_tokens,
    priority`. Raises InputError with every bad place.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file), [])
            columns = _columns(names, str(path))
            table = _at_once(path, [names.index(name) for name in columns])
            if table is None or not _valid(table, columns).all():
                file.seek(0)
                table = _row_by_row(csv.DictReader(file, strict=True), columns, str(path))
        return _as_list(table, columns, _ids(path) if "id" in names else None)
    except OSError as error:
        raise InputError(Problem(str(path), "", error.strerror or str(error), "a CSV file")) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(Problem(str(path), "", f"not CSV in UTF-8: {error}")) from error


def _columns(names: Sequence[str], file: str) -> list[str]:
    """The columns to read. Raises InputError when one of the three is missing, or one of a pair."""
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        wanted = f"the columns {', '.join(COLUMNS)} (and id, {', '.join(OPTIONAL)}, if you like)"
        raise InputError(Problem(file, "line 1", f"no column {', '.join(missing)}", wanted))
    if ("prefix" in names) != ("prefix_tokens" in names):
        raise InputError(
            Problem(file, "line 1", "one of prefix and prefix_tokens", "both columns, or neither")
        )
    return [*COLUMNS, *(column for column in OPTIONAL if column in names)]


def _at_once(path: Path, places: list[int]) -> npt.NDArray[np.float64] | None:
    """All rows, read by NumPy. None when one is not numbers: then somebody has to find out which."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a file without rows is a list without requests
            table = np.loadtxt(
                path,
                delimiter=",",
                skiprows=1,
                usecols=places,
                ndmin=2,
                comments=None,
                quotechar='"',
                encoding="utf-8-sig",
            )
        return table.reshape(-1, len(places))
    except ValueError:
        return None


def _row_by_row(rows: csv.DictReader[str], columns: Sequence[str], name: str) -> npt.NDArray[np.float64]:
    """The same with every bad place named. Raises InputError."""
    problems: list[Problem] = []
    values: list[tuple[float, ...]] = []
    for row in rows:
        place = f"line {rows.line_num}"
        values.append(tuple(_number(row[column], column, name, place, problems) for column in columns))
        if len(problems) > SHOWN:
            break
    if problems:
        raise InputError(problems)
    return np.array(values, dtype=np.float64).reshape(len(values), len(columns))


def _as_list(table: npt.NDArray[np.float64], columns: list[str], ids: list[str] | None) -> RequestList:
    whole = {name: table[:, k].astype(np.int64) for k, name in enumerate(columns) if name != "arrival_s"}
    return RequestList(
        ids=Numbers(range(len(table))) if ids is None else ids,
        arrival_s=table[:, columns.index("arrival_s")].copy(),
        prompt_tokens=whole.pop("prompt_tokens"),
        output_tokens=whole.pop("output_tokens"),
        options=whole,
    )


Rule = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]


def _whole(least: int) -> Rule:
    return lambda x: (x >= least) & (x <= LARGEST) & (x == np.floor(x))


RULES: dict[str, tuple[Rule, str]] = {
    "arrival_s": (lambda x: (x >= 0) & (x < np.inf), "seconds, 0 or more"),
    "prompt_tokens": (_whole(1), "a whole number, 1 or more"),
    "output_tokens": (_whole(1), "a whole number, 1 or more"),
    "max_tokens": (_whole(1), "a whole number, 1 or more"),
    "prefix": (_whole(-1), "a whole number for all that begin alike, -1 for none"),
    "prefix_tokens": (_whole(0), "a whole number, 0 or more"),
    "priority": (_whole(-LARGEST), "a whole number"),
}


def _valid(table: npt.NDArray[np.float64], columns: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.array([RULES[name][0](table[:, k]).all() for k, name in enumerate(columns)])


def _number(text: str | None, column: str, name: str, place: str, problems: list[Problem]) -> float:
    good, right = RULES[column]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not good(np.array(value)):
        problems.append(Problem(name, f"{place}, {column}", f"{text!r}", right))
        return 1.0
    return value


def _ids(path: Path) -> list[str]:
    """The ids of all rows, a row's number where it has none. Raises InputError for one that stands there twice."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        ids = [row["id"] or str(k) for k, row in enumerate(csv.DictReader(file, strict=True))]
    problems = _duplicates(ids, str(path))
    if problems:
        raise InputError(problems)
    return ids


def _duplicates(ids: Iterable[str], name: str) -> list[Problem]:
    twice = [i for i, count in Counter(ids).items() if count > 1]
    return [Problem(name, "id", f"{i!r} stands there more than once", "each id once") for i in twice[:SHOWN]]
