"""Reads a TOML file that a person wrote, and says what is wrong with it where it is not one."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import tomli

from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.workload.problems import key_lines

__all__ = ["read_toml"]

MAX_BYTES = 4 * 1024 * 1024


def read_toml(path: Path, kind: str) -> tuple[bytes, dict[str, Any], dict[str, int]]:
    """The file's bytes, what they say, and on which line each key stands. `kind` names what the file should be.

    Raises InputError.
    """

    def wrong(place: str, what: str, right: str = "") -> InputError:
        return InputError(Problem(str(path), place, what, right))

    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise wrong("", "is a folder", kind)
        if not stat.S_ISREG(mode):
            raise wrong("", "is not a regular file", kind)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise wrong("", what, kind) from error
    if len(content) > MAX_BYTES:
        raise wrong("", "longer than 4 MiB", kind)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise wrong(f"line {line}", f"not UTF-8 (byte {error.start})", "save the file as UTF-8") from error
    if not text.strip():
        raise wrong("", "is empty", kind)
    try:
        return content, tomli.loads(text), key_lines(text)
    except tomli.TOMLDecodeError as error:
        raise wrong(f"line {error.lineno}, column {error.colno}", f"not TOML: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise wrong("", f"not TOML that can be used: {error}") from error
