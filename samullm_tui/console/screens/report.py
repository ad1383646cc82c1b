"""A finished run against its forecast."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from samullm_tui.console.html import html_page
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.scrolling import ScrollScreen
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.common import brief, status_segment
from samullm_tui.console.views.report import ReportView, report_lines, report_sections
from samullm_tui.domain.errors import Problem, SamullmError
from samullm_tui.domain.run_report import RunReport
from samullm_tui.journal.run_state import RunState

__all__ = ["ReportScreen"]

EXPORT_WIDTH = 110


class ReportScreen(ScrollScreen):
    """What the journal says is there at once; what must be simulated comes from another process."""

    NAME: ClassVar[str] = "report"

    def __init__(self, state: RunState, path: Path) -> None:
        """`path`: the run's folder, or the recording."""
        super().__init__()
        self.state = state
        self.path = path
        self.report: RunReport | None = None
        self.problems: tuple[Problem, ...] = ()
        self._since: float | None = None

    def on_mount(self) -> None:
        known = self.console.cache.get(self._key)
        if isinstance(known, RunReport):
            self.report = known
        else:
            self._since = time.monotonic()
            self.run_worker(self._fetch(), group="fetch")
            self.set_interval(1.0, self._count)

    @property
    def _key(self) -> str:
        return f"report {self.path} {self.state.events}"

    def _count(self) -> None:
        if self._since is not None:
            self.redraw()

    async def _fetch(self) -> None:
        try:
            self.report = await self.console.sources.report(self.path)
            self.console.cache[self._key] = self.report
        except SamullmError as error:
            self.problems = error.problems
        self._since = None
        self.redraw()

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.state.run, ""), (" ▸ ", "dim"), ("Report", "bold")]
        return left, [status_segment(self.state.status)]

    @property
    def view(self) -> ReportView:
        elapsed = f" {time.monotonic() - self._since:.0f}s" if self._since is not None else ""
        return ReportView(
            state=self.state,
            marks=marks_of(list(self.state.llms)),
            report=self.report,
            working=f"simulating with what was observed …{elapsed}" if elapsed else "",
            problems=self.problems,
        )

    def content(self, width: int, height: int) -> list[Line]:
        return report_lines(self.view, width)

    def facts(self) -> set[str]:
        return super().facts() | ({"reported"} if self._since is None else set())

    def do_export(self) -> None:
        self.run_worker(self._export(), group="export")

    async def _export(self) -> None:
        state = self.state
        page = html_page(
            f"{state.run}: {state.status}",
            f"{state.application} on {state.cluster}, {state.engine} engines, seed {state.seed}, "
            f"samullm-tui {state.version}. Figures with ~ are simulated.",
            report_sections(self.view, EXPORT_WIDTH),
            self.console.look,
            EXPORT_WIDTH,
        )
        try:
            path = await in_thread(self.console.sources.export, f"report-{state.run}.html", page)
        except SamullmError as error:
            self.say(brief(error.problems[0]), "bad")
            return
        self.say(f"written: {path}", "good")

    def do_copy(self) -> None:
        self.copy(self.state.run, "run")
