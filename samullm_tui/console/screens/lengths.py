"""How long each LLM's answers are likely to be, and, of a run, how long they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from samullm_tui.console.layout.gantt import Mark, marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.waiting import WaitingScreen
from samullm_tui.console.views.lengths import LengthsView, lengths_body
from samullm_tui.domain.length_report import LLMLengths, RunLengths, SeenLengths

__all__ = ["LengthsScreen"]


class LengthsScreen(WaitingScreen[RunLengths]):
    """One LLM at a time. `name` is the application's or the run's, `llms` all of it in the order of their letters."""

    NAME: ClassVar[str] = "lengths"
    WHAT = "fitting lengths"

    def __init__(
        self, name: str, llms: Sequence[str], key: str, get: Callable[[], Awaitable[RunLengths]]
    ) -> None:
        super().__init__(f"lengths {key}")
        self.about = name
        self.index = 0
        self.family = 0
        self.log_axis = False
        self.observed = True
        self._get = get
        self._marks = marks_of(llms)

    async def fetch(self) -> RunLengths:
        return await self._get()

    @property
    def shown(self) -> LLMLengths | None:
        llms = self.result.report.llms if self.result else ()
        return llms[self.index % len(llms)] if llms else None

    @property
    def seen(self) -> SeenLengths | None:
        """What a run showed of that LLM."""
        seen = self.result.seen if self.result else ()
        return seen[self.index % len(seen)] if seen else None

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.about, ""), (" ▸ ", "dim"), ("Lengths", "bold")]
        llm = self.shown
        if llm is None or self.result is None:
            return left, []
        mark = self._mark(llm)
        count = len(self.result.report.llms)
        place = f"  {self.index % count + 1} of {count}"
        return left, [(f"{mark.letter} ", f"{mark.text_style} bold"), (llm.llm, "bold"), (place, "dim")]

    def _mark(self, llm: LLMLengths) -> Mark:
        return self._marks.get(llm.llm, Mark("?", 0))

    def body_of(self, result: RunLengths, width: int, height: int) -> list[Line]:
        llm = self.shown
        if llm is None:
            return [[(" no LLM has a length distribution", "dim")]]
        view = LengthsView(
            llm=llm,
            mark=self._mark(llm),
            family=llm.families[self.family % len(llm.families)].name if llm.families else "",
            log=self.log_axis,
            seen=self.seen,
            draw_seen=self.observed,
            simulated=result.simulated,
        )
        return lengths_body(view, width, height)

    def facts(self) -> set[str]:
        facts = super().facts()
        return facts | {"seen"} if self.seen is not None and self.seen.cdf else facts

    # Keys

    def _turn(self, by: int) -> None:
        self.index += by
        self.redraw()

    def do_next_llm(self) -> None:
        self._turn(1)

    def do_previous_llm(self) -> None:
        self._turn(-1)

    def do_family(self) -> None:
        self.family += 1
        self.observed = False
        self.redraw()

    def do_observed(self) -> None:
        self.observed = not self.observed
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
