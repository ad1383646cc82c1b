"""The cause of an engine's end, found in its log: the last line of a vLLM log is the same whatever went wrong."""

from __future__ import annotations

import re

from samullm_tui.domain.sanitise import sanitise_line

__all__ = ["cause_of"]

LIMIT = 300
# `(EngineCore pid=12) ERROR 11-21 12:00:00 [core.py:877] ` and the like before a line's own text.
PREFIX = re.compile(r"^(\([\w ]+pid=\d+\)\s*)?((ERROR|CRITICAL|WARNING|INFO)\s+[\d:. -]+(\[[^\]]+\])?\s?)?")
ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Exit|Refused))(?::\s*(.*))?$")
USAGE = re.compile(r"^[\w./ -]+: error: (.+)$")
# What vLLM raises because something else went wrong, further up.
CONSEQUENCES = ("Engine core initialization failed", "EngineCore encountered an issue", "EngineDeadError")


def cause_of(log: str) -> str:
    """One sanitised line: the last error that is not the consequence of another; empty when the log names none."""
    found = [text for text in map(_error_in, log.splitlines()) if text]
    causes = [text for text in found if not any(word in text for word in CONSEQUENCES)]
    best = causes or found
    return sanitise_line(best[-1], LIMIT) if best else ""


def _error_in(line: str) -> str:
    text = PREFIX.sub("", line, count=1).strip()
    usage = USAGE.match(text)
    if usage:
        return usage[1]
    error = ERROR.match(text)
    if error is None:
        return ""
    name, message = error[1], (error[2] or "").strip()
    return f"{name}: {message}" if message else name
