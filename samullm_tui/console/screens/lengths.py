"""How long each LLM's answers are likely to be."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from samullm_tui.console.layout.gantt import Mark, marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.waiting import WaitingScreen
from samullm_tui.console.views.lengths import LengthsView, lengths_body
from samullm_tui.domain.application import Application
from samullm_tui.domain.length_report import LengthReport, LLMLengths

__all__ = ["LengthsScreen"]


class LengthsScreen(WaitingScreen[LengthReport]):
    """One LLM at a time."""

    NAME: ClassVar[str] = "lengths"
    WHAT = "fitting lengths"

    def __init__(self, application: Application, path: Path) -> None:
        super().__init__(f"lengths {path} {application.sha256}")
        self.application = application
        self.path = path
        self.index = 0
        self.family = 0
        self.log_axis = False
        self._marks = marks_of([llm.name for llm in application.llms])

    async def fetch(self) -> LengthReport:
        return await self.console.sources.lengths(self.path)

    @property
    def shown(self) -> LLMLengths | None:
        llms = self.result.llms if self.result else ()
        return llms[self.index % len(llms)] if llms else None

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.application.name, ""), (" ▸ ", "dim"), ("Lengths", "bold")]
        llm = self.shown
        if llm is None or self.result is None:
            return left, []
        mark = self._mark(llm)
        place = f"  {self.index % len(self.result.llms) + 1} of {len(self.result.llms)}"
        return left, [(f"{mark.letter} ", f"{mark.text_style} bold"), (llm.llm, "bold"), (place, "dim")]

    def _mark(self, llm: LLMLengths) -> Mark:
        return self._marks.get(llm.llm, Mark("?", 0))

    def body_of(self, result: LengthReport, width: int, height: int) -> list[Line]:
        llm = self.shown
        if llm is None:
            return [[(" no LLM has a length distribution", "dim")]]
        family = llm.families[self.family % len(llm.families)].name if llm.families else ""
        return lengths_body(LengthsView(llm, self._mark(llm), family, self.log_axis), width, height)

    def _turn(self, by: int) -> None:
        self.index += by
        self.redraw()

    def do_next_llm(self) -> None:
        self._turn(1)

    def do_previous_llm(self) -> None:
        self._turn(-1)

    def do_family(self) -> None:
        self.family += 1
        self.redraw()

    def do_log_axis(self) -> None:
        self.log_axis = not self.log_axis
        self.redraw()

    def do_copy(self) -> None:
        llm = self.shown
        if llm is not None:
            figures = (
                f"mean {llm.mean:.0f} p50 {llm.p50:.0f} p90 {llm.p90:.0f} p99 {llm.p99:.0f} max {llm.max:.0f}"
            )
            self.copy(f"{llm.llm}: {figures}", "figures")
