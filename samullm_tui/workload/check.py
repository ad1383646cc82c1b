"""Everything that is wrong with an application: its file and its data together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.workload.application_file import draft_application
from samullm_tui.workload.problems import SHOWN, Problems
from samullm_tui.workload.records import scan_records
from samullm_tui.workload.requests import Workload, build_requests

__all__ = ["check_application"]


def check_application(
    path: Path,
    *,
    allow_outside: bool = False,
    contexts: Callable[[Application], Mapping[str, int]] | None = None,
) -> Workload:
    """The application in `path` with all its requests. Where the file is wrong, its data sets are read none the less.

    `contexts` tells the context of each LLM that does not say its own.

    Raises ApplicationError with everything that is wrong.
    """
    draft = draft_application(path, allow_outside=allow_outside)
    if draft.application is not None:
        known = contexts(draft.application) if contexts else None
        return build_requests(draft.application, contexts=known)
    found: list[Problem] = list(draft.problems)
    for data in draft.data:
        problems = Problems(data.file or str(path), limit=SHOWN)
        for _ in scan_records(data, problems):
            pass
        found += problems.all()
    raise ApplicationError(found)
