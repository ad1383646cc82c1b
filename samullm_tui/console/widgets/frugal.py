"""Repaints that send the changed cells only.

Textual 8.2 paints each changed part of a line from the left edge of its widget on, and colours that stay the same are
sent again for each piece of text: more than four times the bytes of a live run.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor

__all__ = ["FrugalCompositor"]


class _ChangedCells(ChopsUpdate):
    """Each span from its first to its last column, at most one colour change for each change of colour."""

    def render_segments(self, console: Console) -> str:
        sent: list[str] = []
        for y, first, end in self.spans:
            for stop, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= end or stop <= first:
                    continue
                left, right = max(first, x), min(end, stop)
                sent.append(Control.move_to(left, y).segment.text)
                sent.append(strip.crop(left - x, right - x).simplify().render(console))
        return "".join(sent)


class FrugalCompositor(Compositor):
    """What a screen has in place of its own."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        return update and _ChangedCells(update.chops, update.spans, update.chop_ends)
