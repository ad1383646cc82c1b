"""Collecting everything that is wrong before saying any of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from samullm_tui.domain.errors import Problem

__all__ = ["SHOWN", "Problems", "did_you_mean", "key_lines", "shown"]

SHOWN = 20
"""How many problems of one data set are listed; the rest is counted."""


class Problems:
    """What is wrong with one file, in the order found.

    `lines` maps dotted places of the file to line numbers, which are then said with the place.
    Of more than `limit` problems the first are kept and the rest counted.
    """

    def __init__(
        self, file: str, *, lines: Mapping[str, int] | None = None, limit: int | None = None
    ) -> None:
        self.file = file
        self._lines = lines or {}
        self._limit = limit
        self._found: list[Problem] = []
        self._more = 0

    def add(self, place: str, wrong: str, right: str = "") -> None:
        if self._limit is not None and len(self._found) >= self._limit:
            self._more += 1
            return
        self._found.append(Problem(self.file, self._with_line(place), wrong, right))

    def __bool__(self) -> bool:
        return bool(self._found)

    def all(self) -> tuple[Problem, ...]:
        more = [Problem(self.file, "", f"and {self._more:,} more")] if self._more else []
        return (*self._found, *more)

    def _with_line(self, place: str) -> str:
        """The place with the line of its nearest table or key; only what is written in the file has one."""
        known = place
        while known and known not in self._lines:
            known = known.rpartition(".")[0]
        return f"{place} (line {self._lines[known]})" if known else place


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What would be right instead of `word`: the nearest of `known`, or all of them."""
    names = sorted(known)
    folded = {name.casefold(): name for name in names}
    close = get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    if not names:
        return "there is none"
    listed = ", ".join(names[:30])
    return f"known: {listed}" + (f" and {len(names) - 30} more" if len(names) > 30 else "")


def shown(value: object) -> str:
    """A value short enough for a message: never a whole text."""
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:47]}…"


_HEADER = re.compile(r"^\s*\[\[?\s*(?P<path>[^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*(?P<path>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def key_lines(toml: str) -> dict[str, int]:
    """Line numbers of the tables and keys of a TOML text, as far as a line by line look can tell."""
    lines: dict[str, int] = {}
    table, quote = "", ""
    for number, line in enumerate(toml.splitlines(), start=1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if header := _HEADER.match(line):
            table = _dotted(header["path"])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            place = _dotted(key["path"])
            lines.setdefault(f"{table}.{place}" if table else place, number)
        quote = next((q for q in ('"""', "'''") if line.count(q) % 2), "")
    return lines


def _dotted(path: str) -> str:
    return ".".join(part.strip("\"'") for part in _PART.findall(path))
