"""One application: what its file says, and the way to its lengths and plans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.lengths import LengthsScreen
from samullm_tui.console.screens.plans import PlansScreen
from samullm_tui.console.screens.scrolling import ScrollScreen
from samullm_tui.console.sources import Place
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.application import ApplicationView, application_lines
from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import Problem, SamullmError
from samullm_tui.domain.length_report import RunLengths

__all__ = ["ApplicationScreen"]


class ApplicationScreen(ScrollScreen):
    """Loads an application, then counts its requests in another process."""

    NAME: ClassVar[str] = "application"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.application: Application | None = None
        self.requests: dict[str, int] = {}
        self.problems: Sequence[Problem] = ()
        self.place: Place | None = None
        self.working = "reading …"

    def on_mount(self) -> None:
        self.run_worker(self._load(), group="load")

    async def _load(self) -> None:
        sources = self.console.sources
        try:
            self.application = await in_thread(sources.load, self.path)
            self.working = "counting requests …"
            self.redraw()
            self.place = await in_thread(sources.place)
            self.redraw()
            report = await sources.check(self.path)
            self.requests = report.requests
        except SamullmError as error:
            self.problems = error.problems
        self.working = ""
        self.redraw()

    def where(self) -> tuple[Line, Line]:
        name = self.application.name if self.application else self.path.stem
        return [(name, "bold")], [(str(self.path.name), "dim")]

    def content(self, width: int, height: int) -> list[Line]:
        view = ApplicationView(self.application, self.requests, self.problems, self.place, self.working)
        return application_lines(view, width)

    def facts(self) -> set[str]:
        ready = self.application is not None and not self.problems
        return super().facts() | ({"loaded"} if ready else set())

    def do_lengths(self) -> None:
        if self.application is not None:
            application, path = self.application, self.path
            llms = [llm.name for llm in application.llms]

            async def get() -> RunLengths:
                return RunLengths(report=await self.console.sources.lengths(path), seen=())

            self.app.push_screen(LengthsScreen(application.name, llms, f"{path} {application.sha256}", get))

    def do_plans(self) -> None:
        if self.application is not None:
            self.app.push_screen(PlansScreen(self.application, self.path))
