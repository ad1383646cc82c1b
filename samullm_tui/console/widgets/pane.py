"""The one way to the terminal: a widget that draws lines and repaints only the cells that changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment as RichSegment
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from samullm_tui.console.layout.ascii import in_ascii
from samullm_tui.console.layout.text import Line, pad_line

if TYPE_CHECKING:
    from samullm_tui.console.themes import Theme

__all__ = ["WORTH_A_JUMP", "Draw", "Pane", "changed_spans"]

Draw = Callable[[int, int], Sequence[Line]]
"""(width, height in cells) → lines. Fewer lines than the height are fine, more are cut."""

WORTH_A_JUMP = 12
"""So many equal cells are skipped; over fewer it costs more bytes to move the cursor than to paint them again."""


def changed_spans(before: Line, after: Line) -> list[tuple[int, int]]:
    """The parts in which two lines of equal width differ: first and last + 1 column of each, from the left."""
    if before == after:
        return []
    spans: list[tuple[int, int]] = []
    for i, (old, new) in enumerate(zip_longest(_cells(before), _cells(after))):
        if old == new:
            continue
        if spans and i - spans[-1][1] < WORTH_A_JUMP:
            spans[-1] = (spans[-1][0], i + 1)
        else:
            spans.append((i, i + 1))
    return spans


def _cells(line: Line) -> list[tuple[str, str]]:
    """One entry for each cell: a wide character fills two, marks without width join the one before.

    The halves of a wide character are told apart, and from those of others: they are painted together.
    """
    cells: list[tuple[str, str]] = []
    for text, style in line:
        for character in text:
            size = cell_len(character)
            if size == 0 and cells:
                cells[-1] = (cells[-1][0] + character, style)
            cells += [(half * ">" + character, style) for half in range(size)]
    return cells


class Pane(Widget):
    """Shows what `draw` returns. Call `redraw()` when that may have changed.

    Whatever reaches the terminal went through `pad_line`, and so through the sanitiser.
    """

    DEFAULT_CSS = "Pane { height: 1fr; width: 1fr; }"
    ALLOW_SELECT: ClassVar[bool] = False

    def __init__(self, draw: Draw, theme: Callable[[], Theme], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self._draw = draw
        self._look = theme
        self._lines: list[Line] = []

    @property
    def lines(self) -> list[Line]:
        """What is on the screen now."""
        return self._lines

    def redraw(self, *, whole: bool = False) -> None:
        """Draws again. `whole` repaints every cell, as after a change of theme."""
        width, height = self.size
        if width <= 0 or height <= 0:
            return
        drawn = [pad_line(line, width) for line in list(self._draw(width, height))[:height]]
        drawn += [[(" " * width, "")] for _ in range(height - len(drawn))]
        if getattr(self.app, "ascii_only", False):
            drawn = [[(in_ascii(text), style) for text, style in line] for line in drawn]
        before, self._lines = self._lines, drawn
        if whole or len(before) != len(drawn):
            self.refresh()
            return
        regions = [
            Region(first, y, end - first, 1)
            for y, (old, new) in enumerate(zip(before, drawn, strict=True))
            for first, end in changed_spans(old, new)
        ]
        if regions:
            self.refresh(*regions)

    def on_resize(self, event: events.Resize) -> None:
        self._lines = []
        self.redraw()

    def render_line(self, y: int) -> Strip:
        theme, width = self._look(), self.size.width
        line = self._lines[y] if y < len(self._lines) else [(" " * width, "")]
        return Strip([RichSegment(text, theme.style(style)) for text, style in line], width)
