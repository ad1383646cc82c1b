"""Observed answers under a name, kept on this machine: what `lengths --learn … --as NAME` writes and planning reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.lengths.answers import Answers
from samullm_tui.locations import lengths_dir
from samullm_tui.workload.border import NAME_PATTERN

__all__ = ["Learnt", "learnt", "write_learnt"]


class Learnt(Struct, frozen=True):
    """`answers` by the LLM's name as the source has it. `source` says where they come from, in words.

    `simulated`: they were drawn by simulated engines, nobody measured them.
    """

    source: str
    answers: Mapping[str, Answers]
    simulated: bool = False

    def of(self, llm: str) -> Answers | None:
        """The answers of that LLM; of whatever LLM where there is only one."""
        if len(self.answers) == 1:
            return next(iter(self.answers.values()))
        return self.answers.get(llm)


class _StoredAnswers(Struct):
    tokens: list[int]
    ended: list[int]
    prompt_tokens: list[int]


class _Stored(Struct):
    source: str
    llms: dict[str, _StoredAnswers]
    simulated: bool = False


def learnt(name: str) -> Learnt | None:
    """The answers under that name; None where there are none. Raises InputError for a damaged file."""
    path = lengths_dir() / f"{name}.json"
    if not re.match(NAME_PATTERN, name) or not path.is_file():
        return None
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, _changed_ns: int) -> Learnt:
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
        answers = {
            llm: Answers.of(
                np.array(a.tokens, np.int64), np.array(a.ended, np.bool_), np.array(a.prompt_tokens, np.int64)
            )
            for llm, a in stored.llms.items()
        }
    except (OSError, msgspec.DecodeError, ValueError) as error:
        wrong = f"no learnt lengths: {error}"
        raise InputError(Problem(str(path), "", wrong, "learn them again, or delete the file")) from error
    return Learnt(stored.source, answers, stored.simulated)


def write_learnt(name: str, found: Learnt) -> Path:
    """Keeps `found` under `name`, instead of what was there. Raises InputError."""
    if not re.match(NAME_PATTERN, name):
        right = "letters, digits, dots, dashes and underscores, 64 at most"
        raise InputError(Problem("--as", "", f"{name!r} is not a name", right))
    stored = _Stored(
        found.source,
        {
            llm: _StoredAnswers(a.tokens.tolist(), a.ended.astype(int).tolist(), a.prompt_tokens.tolist())
            for llm, a in found.answers.items()
        },
        found.simulated,
    )
    path = lengths_dir() / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(stored))
        fresh.replace(path)
    except OSError as error:
        raise InputError(
            Problem(str(path), "", error.strerror or str(error), "a place that can be written")
        ) from error
    return path
