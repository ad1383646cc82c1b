"""A dangerous thing asks first: what will happen, in numbers. The default is no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import events

from samullm_tui.console.layout.text import Line, wrap
from samullm_tui.console.screens.base import ConsoleScreen

__all__ = ["ConfirmScreen"]


class ConfirmScreen(ConsoleScreen):
    """Calls `then` when `word` is typed and confirmed; the screen below is back before that.

    `facts` are asked for again every second; `over` says why there is nothing to confirm any more, or nothing.
    """

    NAME: ClassVar[str] = "confirm"

    def __init__(
        self,
        question: str,
        facts: Callable[[], Sequence[str]],
        word: str,
        then: Callable[[], None],
        over: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__()
        self.question = question
        self.consequences = facts
        self.word = word
        self.then = then
        self.over = over
        self.field = ""

    def on_mount(self) -> None:
        self.set_interval(1.0, self.redraw)

    def where(self) -> tuple[Line, Line]:
        return [("Are you sure?", "bold")], []

    def body(self, width: int, height: int) -> list[Line]:
        lines: list[Line] = [[], [(self.question, "bold")], []]
        lines += [[(line, "")] for fact in self.consequences() for line in wrap(fact, width - 6)]
        if over := self.over():
            return [[("   ", ""), *line] for line in [*lines, [], [(over, "warning")]]]
        question: Line = [("Type ", ""), (self.word, "accent bold"), (" and ⏎, esc to go back:  ", "")]
        question += [(self.field, "bold"), ("▏", "accent")]
        return [[("   ", ""), *line] for line in [*lines, [], question]]

    def facts(self) -> set[str]:
        return super().facts() | ({"typed"} if self.field == self.word and not self.over() else set())

    def typed(self, event: events.Key) -> bool:
        if event.key == "backspace":
            self.field = self.field[:-1]
        elif event.character and event.is_printable:
            self.field = (self.field + event.character)[-20:]
        else:
            return False
        return True

    def do_do_it(self) -> None:
        self.app.pop_screen()
        self.app.call_later(self.then)
