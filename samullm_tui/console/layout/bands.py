"""p10–p50–p90 bands on a common axis."""

from __future__ import annotations

from msgspec import Struct

from samullm_tui.console.layout.duration import tick_label, tick_step
from samullm_tui.console.layout.text import Line
from samullm_tui.domain.plan import Band

__all__ = ["Axis", "axis_labels", "band_axis", "band_line"]


class Axis(Struct, frozen=True):
    """Cells 0 … width - 1 stand for start_s … end_s."""

    start_s: float
    end_s: float
    width: int

    def cell(self, seconds: float) -> int:
        """The cell of a moment, kept on the axis."""
        span = max(self.end_s - self.start_s, 1e-9)
        return min(self.width - 1, max(0, int((seconds - self.start_s) / span * self.width)))


def band_axis(bands: tuple[Band, ...], lower_bound_s: float, width: int) -> Axis:
    """An axis that shows every band and the bound, with a little air at both ends."""
    low = min([band.p10 for band in bands] + [lower_bound_s])
    high = max([band.p90 for band in bands] + [lower_bound_s])
    air = 0.04 * max(high - low, 0.02 * high, 1e-3)
    return Axis(max(0.0, low - air), high + air, width)


def band_line(band: Band, axis: Axis, style: str, lower_bound_s: float | None = None) -> Line:
    """`├──█──┤` in exactly `axis.width` cells; the lower bound as a thin line behind it."""
    if axis.width <= 0:
        return []
    cells = [" "] * axis.width
    low, middle, high = (axis.cell(value) for value in (band.p10, band.p50, band.p90))
    cells[low : high + 1] = "─" * (high + 1 - low)
    cells[low], cells[high] = "├", "┤"
    cells[middle] = "█"
    line: Line = [("".join(cells), style)]
    if lower_bound_s is None or cells[bound := axis.cell(lower_bound_s)] != " ":
        return line
    text = line[0][0]
    return [(text[:bound], style), ("┊", "dim"), (text[bound + 1 :], style)]


def axis_labels(axis: Axis, ticks: int) -> str:
    """Labels of round moments in exactly `axis.width` cells; labels that would touch are left out."""
    step = tick_step(axis.end_s - axis.start_s, ticks)
    cells = [" "] * max(0, axis.width)
    moment, free = -(-axis.start_s // step) * step, 0
    while moment <= axis.end_s:
        label = tick_label(round(moment, 6))
        start = axis.cell(moment)
        if start >= free and start + len(label) <= axis.width:
            cells[start : start + len(label)] = label
            free = start + len(label) + 1
        moment += step
    return "".join(cells)
