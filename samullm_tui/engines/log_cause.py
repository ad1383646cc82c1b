"""The cause of an engine's end, found in its log: the last line of a vLLM log is the same whatever went wrong."""

from __future__ import annotations

import re

from samullm_tui.domain.sanitise import sanitise_line

__all__ = ["cause_of"]

LIMIT = 300
# `(EngineCore pid=12) ERROR 11-21 12:00:00 [core.py:877] ` and the like before a line's own text.
PREFIX = re.compile(r"^(\([\w ]+pid=\d+\)\s*)?((ERROR|CRITICAL|WARNING|INFO)\s+[\d:. -]+(\[[^\]]+\])?\s?)?")
ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception))(?::\s*(.*))?$")
FATAL = re.compile(r"^Fatal Python error: (.+)$")
USAGE = re.compile(r"^[\w./ -]+: error: (.+)$")
# What is raised because something else went wrong, further up, or because the engine is ending anyway.
CONSEQUENCES = (
    "Engine core initialization failed",
    "EngineCore encountered an issue",
    "EngineDeadError",
    "Worker failed with error",
    "CancelledError",
    "BrokenPipeError",
    "ConnectionResetError",
)
# An absolute path, but not what follows the host in a URL.
FOLDERS = re.compile(r"(?<![\w/:.])/(?:[^\s/'\"]+/)+")
TOKEN = re.compile(r"\bhf_\w{8,}")
QUOTED_INPUT = re.compile(r"\s*\[type=\w+, input_value=.*")


def cause_of(log: str) -> str:
    """One sanitised line: the last error that is not the consequence of another; empty when the log names none.

    Folders are left out of paths, and access tokens cut: the line goes into the run's journal.
    """
    lines = [PREFIX.sub("", line, count=1) for line in log.splitlines()]
    found = [text for index in range(len(lines)) if (text := _error_at(lines, index))]
    causes = [text for text in found if not any(word in text for word in CONSEQUENCES)]
    best = causes or found
    return _clean(best[-1]) if best else ""


def _error_at(lines: list[str], index: int) -> str:
    """The error that the line names, when it is not indented: indented lines are source code and advice."""
    text = lines[index].rstrip()
    for pattern in (USAGE, FATAL):
        if match := pattern.match(text):
            return match[1]
    error = ERROR.match(text)
    if error is None:
        return ""
    name, message = error[1], (error[2] or "").strip()
    if name == "ValidationError" and "validation error" in message:
        # Pydantic says how many there are, and what they are below.
        name = "ValueError"
        message = " ".join(lines[index + 1 : index + 2]).strip().removeprefix("Value error, ") or message
    return f"{name}: {message}" if message else name


def _clean(text: str) -> str:
    text = QUOTED_INPUT.sub("", text)
    return sanitise_line(TOKEN.sub("hf_…", FOLDERS.sub("", text)), LIMIT)
