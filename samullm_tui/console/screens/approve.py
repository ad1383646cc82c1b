"""The question before a start. The default is no."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import events

from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.sources import Place
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.approve import WORD, ApproveView, approve_lines
from samullm_tui.domain.errors import Problem, SamullmError
from samullm_tui.domain.event import GpuSample
from samullm_tui.domain.plan import Candidate, Forecast
from samullm_tui.locations import runs_dir

__all__ = ["ApproveScreen"]


class ApproveScreen(ConsoleScreen):
    """Launches a run when its word is typed and confirmed."""

    NAME: ClassVar[str] = "approve"

    def __init__(self, forecast: Forecast, candidate: Candidate, path: Path, place: Place) -> None:
        super().__init__()
        self.forecast = forecast
        self.candidate = candidate
        self.path = path
        self.place = place
        self.gpus_now: Sequence[GpuSample] | None = None
        self.field = ""
        self.working = ""
        self.problems: Sequence[Problem] = ()

    def on_mount(self) -> None:
        self.run_worker(self._look(), group="gpus")

    async def _look(self) -> None:
        self.gpus_now = await in_thread(self.console.sources.gpus_now)
        self.redraw()

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.forecast.application, ""), (" ▸ Plans ▸ ", "dim"), ("Start", "bold")]
        return left, [(self.place.title, "dim")]

    def body(self, width: int, height: int) -> list[Line]:
        view = ApproveView(
            *(self.forecast, self.candidate, self.place, self.gpus_now, runs_dir()),
            *(self.field, self.working, self.problems),
        )
        return approve_lines(view, width)

    def facts(self) -> set[str]:
        if self.working:
            return set()
        return super().facts() | ({"typed"} if self.field == WORD else set())

    def typed(self, event: events.Key) -> bool:
        if self.working:
            return True
        if event.key == "backspace":
            self.field = self.field[:-1]
        elif event.character and event.is_printable:
            self.field = (self.field + event.character)[-20:]
        else:
            return False
        return True

    def do_do_it(self) -> None:
        self.problems = ()
        self.working = "creating the run and starting its supervisor …"
        self.redraw()
        self.run_worker(self._launch(), group="launch")

    async def _launch(self) -> None:
        try:
            run = await self.console.sources.launch(self.path, self.forecast, self.candidate.rank)
        except SamullmError as error:
            self.working = ""
            self.problems = error.problems
            self.say("not started", "bad")
            return
        self.console.open_run(run, instead=True)
