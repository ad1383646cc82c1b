"""Candidate plans, and the way to starting one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.approve import ApproveScreen
from samullm_tui.console.screens.charting import ChartScreen
from samullm_tui.console.screens.waiting import WaitingScreen
from samullm_tui.console.screens.whatif import WhatIfScreen
from samullm_tui.console.sources import Place
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.common import brief
from samullm_tui.console.views.plans import PlansView, chart_end_s, plans_body, ranked
from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import SamullmError
from samullm_tui.domain.plan import Candidate, Forecast

__all__ = ["PlansScreen"]


class PlansScreen(ChartScreen, WaitingScreen[Forecast]):
    """A cursor among the candidates; the selected one is drawn below."""

    NAME: ClassVar[str] = "plans"
    WHAT = "planning"

    def __init__(self, application: Application, path: Path) -> None:
        super().__init__(f"plans {path} {application.sha256}")
        self.application = application
        self.path = path
        self.place: Place | None = None
        self.cursor = 0
        self.by_p90 = False
        self.stages = False
        self.top = 0
        self.compared: Candidate | None = None
        self._approve_next = False
        self._marks = marks_of([llm.name for llm in application.llms])

    async def fetch(self) -> Forecast:
        return await self.console.sources.forecast(self.path)

    def on_mount(self) -> None:
        super().on_mount()
        self.run_worker(self._look(), group="place")

    async def _look(self) -> None:
        try:
            self.place = await in_thread(self.console.sources.place)
        except SamullmError as error:
            self.say(brief(error.problems[0]), "bad")
        self._go_on_to_approve()
        self.redraw()

    def fetched(self) -> None:
        self._go_on_to_approve()

    @property
    def candidates(self) -> list[Candidate]:
        return ranked(self.result, by_p90=self.by_p90) if self.result else []

    @property
    def chosen(self) -> Candidate | None:
        candidates = self.candidates
        return candidates[min(self.cursor, len(candidates) - 1)] if candidates else None

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.application.name, ""), (" ▸ ", "dim"), ("Plans", "bold")]
        if self.result is None:
            return left, [(self.place.title if self.place else "", "dim")]
        title = self.place.title if self.place else self.result.cluster
        facts = f"{title} · {self.result.samples} draws · planned in {self.result.planning_s:.1f}s"
        return left, [(facts, "dim")]

    def body_of(self, result: Forecast, width: int, height: int) -> list[Line]:
        candidates = self.candidates
        if not candidates:
            return [[(" no plan fits on this cluster", "warning")]]
        return plans_body(self._view(result), width, height)

    def _view(self, result: Forecast) -> PlansView:
        candidates = self.candidates
        return PlansView(
            forecast=result,
            candidates=candidates,
            cursor=min(self.cursor, len(candidates) - 1),
            marks=self._marks,
            gpus=self._gpus(result),
            by_p90=self.by_p90,
            compared=self.compared,
            stages=self.stages,
            top=self.top,
            window=self.window,
        )

    @property
    def is_charted(self) -> bool:
        return self.chosen is not None and not self.stages

    @property
    def chart_time(self) -> tuple[float, float | None]:
        return (0.0 if self.result is None else chart_end_s(self._view(self.result))), None

    def _gpus(self, result: Forecast) -> int:
        if self.place is not None:
            return self.place.gpus
        return 1 + max((g for c in result.candidates for span in c.spans for g in span.gpus), default=0)

    def facts(self) -> set[str]:
        facts = super().facts()
        if self.chosen is not None:
            return facts | {"planned", "approvable"}
        return facts | {"approvable"} if "working" in facts else facts

    # Keys

    def _move(self, by: int) -> None:
        self.cursor = min(max(0, len(self.candidates) - 1), max(0, self.cursor + by))
        self.top = 0
        self.redraw()

    def _scroll(self, by: int) -> None:
        self.top = max(0, self.top + by)
        self.redraw()

    def do_up(self) -> None:
        self._move(-1)

    def do_down(self) -> None:
        self._move(1)

    def do_first(self) -> None:
        self._move(-(10**6))

    def do_last(self) -> None:
        self._move(10**6)

    def do_page_up(self) -> None:
        self._scroll(-5)

    def do_page_down(self) -> None:
        self._scroll(5)

    def do_stages(self) -> None:
        self.stages, self.top = not self.stages, 0
        self.redraw()

    def do_rank_by(self) -> None:
        here = self.chosen
        self.by_p90 = not self.by_p90
        if here is not None:
            self.cursor = self.candidates.index(here)
        self.say(
            "ranked by p90: nine in ten draws are faster" if self.by_p90 else "ranked by the median", "dim"
        )

    def do_compare(self) -> None:
        same = (
            self.compared is not None and self.chosen is not None and self.compared.rank == self.chosen.rank
        )
        self.compared = None if same else self.chosen
        self.say("no longer compared" if same else "kept for comparison: select another plan", "dim")

    def do_approve(self) -> None:
        """While it plans, or looks at this machine: as soon as that is done."""
        self._approve_next = True
        if self.result and not self.place:
            self.say("still looking at this machine", "warning")
        self._go_on_to_approve()
        self.redraw()

    def _go_on_to_approve(self) -> None:
        if self._approve_next and self.is_current and self.result and self.chosen and self.place:
            self._approve_next = False
            self.app.push_screen(ApproveScreen(self.result, self.chosen, self.path, self.place))

    @property
    def takes_text(self) -> bool:
        """What is typed too early for the next screen does nothing here."""
        return self._approve_next and "working" in self.facts()

    def body(self, width: int, height: int) -> list[Line]:
        lines = super().body(width, height)
        if self.takes_text:
            lines.append([(" as soon as there is a plan you can start it", "dim")])
        return lines

    def do_what_if(self) -> None:
        if self.result is not None:
            gpus = self._gpus(self.result)
            self.app.push_screen(WhatIfScreen(self.result, self._marks, self.path, self.place, gpus))

    def do_copy(self) -> None:
        if self.result is None or self.chosen is None:
            return
        words = ["samullm-tui", "plan", str(self.path)]
        words += ["--cluster", self.place.cluster] if self.place and self.place.cluster else []
        words += ["--seed", str(self.result.seed), "--rank", str(self.chosen.rank), "-o", "PLAN.json"]
        self.copy(shlex.join(words), "the command that writes this plan")
