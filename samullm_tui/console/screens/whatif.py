"""What if: pin LLMs of a planned application, and see what the best plan would take then."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from textual import events

from samullm_tui.console.layout.gantt import Mark
from samullm_tui.console.layout.text import Line
from samullm_tui.console.pins import FIELDS, pin_texts, wrong_pin
from samullm_tui.console.screens.approve import ApproveScreen
from samullm_tui.console.screens.charting import ChartScreen
from samullm_tui.console.sources import Place
from samullm_tui.console.views.whatif import WhatIfView, whatif_body
from samullm_tui.domain.errors import Problem, SamullmError
from samullm_tui.domain.plan import Forecast

__all__ = ["WhatIfScreen"]

FIRST_DRAWS = 10
"""A first look with so few draws comes in a part of the time; the whole ranking follows it."""
TYPED = frozenset("0123456789,-")
LONGEST = 20


class WhatIfScreen(ChartScreen):
    """A table of pins. Each change plans anew in another process, and ends the one before."""

    NAME: ClassVar[str] = "whatif"

    def __init__(
        self, forecast: Forecast, marks: Mapping[str, Mark], path: Path, place: Place | None, gpus: int
    ) -> None:
        super().__init__()
        self.forecast = forecast
        self.marks = marks
        self.path = path
        self.place = place
        self.gpus = gpus
        self.llms = list(marks)
        self.pins: dict[tuple[str, str], str] = {}
        self.row = self.column = 0
        self.field: str | None = None
        self.pinned: Forecast | None = None
        self.problems: tuple[Problem, ...] = ()
        self._since: float | None = None

    def on_mount(self) -> None:
        self.set_interval(1.0, self._count)

    def _count(self) -> None:
        if self._since is not None:
            self.redraw()

    # What is shown

    def where(self) -> tuple[Line, Line]:
        left: Line = [(self.forecast.application, ""), (" ▸ Plans ▸ ", "dim"), ("What if", "bold")]
        return left, [(self.place.title if self.place else self.forecast.cluster, "dim")]

    def body(self, width: int, height: int) -> list[Line]:
        return whatif_body(self._view, width, height)

    @property
    def _view(self) -> WhatIfView:
        working = f"planning … {time.monotonic() - self._since:.0f}s" if self._since is not None else ""
        return WhatIfView(
            base=self.forecast.candidates[0],
            llms=self.llms,
            marks=self.marks,
            gpus=self.gpus,
            pins=self.pins,
            cursor=(self.row, self.column),
            field=self.field,
            pinned=self.pinned,
            working=working,
            problems=self.problems,
            window=self.window,
        )

    @property
    def is_charted(self) -> bool:
        return True

    @property
    def chart_time(self) -> tuple[float, float | None]:
        return self._view.chart_end_s, None

    def facts(self) -> set[str]:
        if self.field is not None:
            return {"typing"}
        facts = super().facts() | {"choosing"}
        if self._since is not None:
            facts = (facts - {"below"}) | {"working"}
        facts |= {"pinned"} if self.pins else set()
        facts |= {"pinned_here"} if self._here in self.pins else set()
        return facts | ({"planned"} if self.pinned and self.pinned.candidates and self.place else set())

    @property
    def _here(self) -> tuple[str, str]:
        return self.llms[self.row], FIELDS[self.column]

    # Planning

    def _plan(self) -> None:
        """With the present pins; what was under way before is ended."""
        self.workers.cancel_group(self, "plan")
        self.pinned, self.problems, self._since = None, (), None
        if self.pins:
            self._since = time.monotonic()
            self.run_worker(self._fetch(pin_texts(self.pins, self.llms)), group="plan")
        self.redraw()

    async def _fetch(self, pins: tuple[str, ...]) -> None:
        try:
            for draws in (FIRST_DRAWS, None):
                self.pinned = await self.console.sources.forecast(self.path, pins, draws)
                self.redraw()
        except SamullmError as error:
            self.problems = error.problems
        self._since = None
        self.redraw()

    # Keys

    @property
    def takes_text(self) -> bool:
        return self.field is not None

    def typed(self, event: events.Key) -> bool:
        character = event.character if event.character in TYPED else None
        if self.field is None:
            if character is None or not character.isdigit():
                return False
            self.field = character
        elif event.key == "backspace":
            self.field = self.field[:-1]
        elif character is not None:
            self.field = (self.field + character)[-LONGEST:]
        else:
            return event.character is not None and event.is_printable
        return True

    def do_pin(self) -> None:
        llm, field = self._here
        text = (self.field or "").strip(",-")
        wrong = wrong_pin(field, text, self.gpus) if text else ""
        if wrong:
            self.say(wrong, "warning")
            return
        self.field = None
        before = dict(self.pins)
        self.pins.pop((llm, field), None)
        self.pins |= {(llm, field): text} if text else {}
        if self.pins != before:
            self._plan()
        self.redraw()

    def do_drop(self) -> None:
        self.field = None
        self.redraw()

    def do_unpin(self) -> None:
        self.pins.pop(self._here, None)
        self._plan()

    def do_unpin_all(self) -> None:
        self.pins = {}
        self._plan()

    def do_cancel(self) -> None:
        self.workers.cancel_group(self, "plan")
        self._since = None
        self.say("planning was ended", "dim")

    def do_approve(self) -> None:
        if self.pinned and self.pinned.candidates and self.place is not None:
            chosen = self.pinned.candidates[0]
            self.app.push_screen(ApproveScreen(self.pinned, chosen, self.path, self.place))

    def do_copy(self) -> None:
        words = ["samullm-tui", "plan", str(self.path)]
        words += ["--cluster", self.place.cluster] if self.place and self.place.cluster else []
        words += [word for text in pin_texts(self.pins, self.llms) for word in ("--pin", text)]
        self.copy(shlex.join([*words, "--seed", str(self.forecast.seed)]), "the command that plans so")

    def _go(self, rows: int, columns: int) -> None:
        self.row = min(len(self.llms) - 1, max(0, self.row + rows))
        self.column = (self.column + columns) % len(FIELDS)
        self.redraw()

    def do_up(self) -> None:
        self._go(-1, 0)

    def do_down(self) -> None:
        self._go(1, 0)

    def do_next_field(self) -> None:
        self._go(0, 1)

    def do_previous_field(self) -> None:
        self._go(0, -1)
