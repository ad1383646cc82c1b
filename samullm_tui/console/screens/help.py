"""Help on a screen, and the palette of its commands."""

from __future__ import annotations

from typing import ClassVar

from textual import events

from samullm_tui.console.actions import Action, actions_of
from samullm_tui.console.layout.text import Line
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.screens.scrolling import ListScreen, ScrollScreen
from samullm_tui.console.views.help import help_lines, palette_body

__all__ = ["HelpScreen", "PaletteScreen"]


class HelpScreen(ScrollScreen):
    """What `about` (a screen's name) shows, and its keys."""

    NAME: ClassVar[str] = "help"

    def __init__(self, about: str) -> None:
        super().__init__()
        self.about = about

    def where(self) -> tuple[Line, Line]:
        return [("Help", "bold"), (" on ", "dim"), (self.about, "")], []

    def content(self, width: int, height: int) -> list[Line]:
        return help_lines(self.about, actions_of(self.about, self.console.actions), width)


class PaletteScreen(ListScreen):
    """The commands that work on `target` now."""

    NAME: ClassVar[str] = "palette"
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset(
        {"commands", "interrupt", "up", "down", "page_up", "page_down", "first", "last"}
    )

    def __init__(self, target: ConsoleScreen) -> None:
        super().__init__()
        self.target = target
        self.field = ""
        self._known = [a for a in target.available() if a.id not in self.LEFT_OUT]

    @property
    def matches(self) -> list[Action]:
        """What contains every word typed; those that contain it in their name come first."""
        words = self.field.casefold().split()
        named = [a for a in self._known if all(word in a.label.casefold() for word in words)]
        told = [a for a in self._known if all(word in f"{a.label} {a.help}".casefold() for word in words)]
        return [*named, *(action for action in told if action not in named)]

    @property
    def length(self) -> int:
        return len(self.matches)

    def where(self) -> tuple[Line, Line]:
        return [("Commands", "bold")], [(f"{self.length} of {len(self._known)}", "dim")]

    def body(self, width: int, height: int) -> list[Line]:
        return palette_body(
            self.matches, min(self.cursor, max(0, self.length - 1)), self.field, width, height
        )

    def facts(self) -> set[str]:
        return super().facts() | ({"selected"} if self.length else set())

    def typed(self, event: events.Key) -> bool:
        if event.key == "backspace":
            self.field = self.field[:-1]
        elif event.character and event.is_printable:
            self.field += event.character
        else:
            return False
        self.cursor = 0
        return True

    def do_choose(self) -> None:
        chosen = self.matches[min(self.cursor, self.length - 1)]
        self.app.pop_screen()
        self.target.call_later(self.target.action_do, chosen.id)
