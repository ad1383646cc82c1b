"""Screens with a cursor in a list, and screens whose lines scroll."""

from __future__ import annotations

from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.base import ConsoleScreen

__all__ = ["ListScreen", "ScrollScreen"]


class _Moving(ConsoleScreen):
    """Moves by one line, by a page, to either end."""

    def move(self, by: int) -> None:
        raise NotImplementedError

    @property
    def page(self) -> int:
        return max(1, self.body_pane.size.height - 3)

    def do_up(self) -> None:
        self.move(-1)

    def do_down(self) -> None:
        self.move(1)

    def do_page_up(self) -> None:
        self.move(-self.page)

    def do_page_down(self) -> None:
        self.move(self.page)

    def do_first(self) -> None:
        self.move(-(10**9))

    def do_last(self) -> None:
        self.move(10**9)


class ListScreen(_Moving):
    """Has a cursor among `length` entries."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor = 0

    @property
    def length(self) -> int:
        raise NotImplementedError

    def move(self, by: int) -> None:
        self.cursor = min(max(0, self.length - 1), max(0, self.cursor + by))
        self.moved()
        self.redraw()

    def moved(self) -> None:
        """Called when the cursor may stand elsewhere."""


class ScrollScreen(_Moving):
    """Shows a window of `content`, which may be longer than the screen."""

    def __init__(self) -> None:
        super().__init__()
        self.top = 0

    def content(self, width: int, height: int) -> list[Line]:
        """All lines, for a window of that size."""
        raise NotImplementedError

    def body(self, width: int, height: int) -> list[Line]:
        lines = self.content(width, height)
        self.top = min(self.top, max(0, len(lines) - height))
        shown = lines[self.top : self.top + height]
        below = len(lines) - self.top - len(shown)
        if below > 0 and shown:
            shown[-1] = [(f"  ↓ {below + 1} more lines", "dim")]
        return shown

    def move(self, by: int) -> None:
        self.top = max(0, self.top + by)
        self.redraw()
