"""Which part of a chart over time is shown: zoomed and moved by the operator."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from samullm_tui.console.layout.bands import Axis

__all__ = ["CLOSEST", "Window"]

CLOSEST = 64
"""The strongest zoom: half an hour of a night is a screen then, and `×64` still fits beside the axis."""


class Window(Struct, frozen=True):
    """`zoom` 1 is the whole; its middle is at `centre_s`, None: at now, or where a run ended, or the beginning of a plan.

    `page` is the page of GPUs, where they do not all fit: they turn round.
    """

    zoom: int = 1
    centre_s: float | None = None
    page: int = 0

    @property
    def label(self) -> str:
        """`×4`; nothing while the whole is shown."""
        return f"×{self.zoom}" if self.zoom > 1 else ""

    def axis(self, end_s: float, now_s: float | None, width: int) -> Axis:
        """The part that is shown of 0 … end_s in `width` cells: never beyond either end."""
        span_s = end_s / self.zoom
        centre_s = self.centre_s if self.centre_s is not None else now_s or 0.0
        start_s = min(end_s - span_s, max(0.0, centre_s - span_s / 2))
        return Axis(start_s, start_s + span_s, width)

    def zoomed(self, factor: float) -> Window:
        """Closer (2) or farther (½), with the same middle; the whole has none."""
        zoom = min(CLOSEST, max(1, round(self.zoom * factor)))
        return replace(self, zoom=zoom, centre_s=self.centre_s if zoom > 1 else None)

    def moved(self, screens: float, end_s: float, now_s: float | None) -> Window:
        """Later by so many of its own widths, or earlier; then it no longer follows now."""
        shown = self.axis(end_s, now_s, 1)
        span_s = shown.end_s - shown.start_s
        centre_s = (shown.start_s + shown.end_s) / 2 + screens * span_s
        return replace(self, centre_s=min(end_s - span_s / 2, max(span_s / 2, centre_s)))

    def paged(self) -> Window:
        """The next page of GPUs."""
        return replace(self, page=self.page + 1)
