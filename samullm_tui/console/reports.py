"""What worker processes print, as the console reads it."""

from __future__ import annotations

from msgspec import Struct, field

from samullm_tui.domain.errors import Problem

__all__ = ["CheckReport", "WorkerProblems"]


class CheckReport(Struct, frozen=True, kw_only=True):
    """Requests of each node, counted from the data."""

    application: str
    requests: dict[str, int] = field(default_factory=dict)


class WorkerProblems(Struct, frozen=True):
    """What a worker prints instead of its result."""

    problems: tuple[Problem, ...]
