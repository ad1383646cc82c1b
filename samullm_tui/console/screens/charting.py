"""What screens with a chart over time share: zoom, and moving along."""

from __future__ import annotations

from samullm_tui.console.layout.window import Window
from samullm_tui.console.screens.base import ConsoleScreen

__all__ = ["ChartScreen"]

STEP = 0.5
"""Of the time that is shown, for one key: what was in the middle stays on the screen."""


class ChartScreen(ConsoleScreen):
    """`window` is the part of the chart that is shown. Its keys work while `is_charted`."""

    window = Window()

    @property
    def is_charted(self) -> bool:
        """Whether there is a chart now."""
        raise NotImplementedError

    @property
    def chart_time(self) -> tuple[float, float | None]:
        """Seconds of the whole chart, and where now is in it."""
        raise NotImplementedError

    def facts(self) -> set[str]:
        facts = super().facts()
        if self.is_charted:
            facts |= {"charted", "zoomed"} if self.window.zoom > 1 else {"charted"}
        return facts

    def _look_at(self, window: Window) -> None:
        self.window = window
        self.redraw()

    def do_zoom_in(self) -> None:
        self._look_at(self.window.zoomed(2))

    def do_zoom_out(self) -> None:
        self._look_at(self.window.zoomed(0.5))

    def do_earlier(self) -> None:
        self._look_at(self.window.moved(-STEP, *self.chart_time))

    def do_later(self) -> None:
        self._look_at(self.window.moved(STEP, *self.chart_time))

    def do_more_gpus(self) -> None:
        self._look_at(self.window.paged())
