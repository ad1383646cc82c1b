"""What all screens share: a title line, a body, a key line, and one way from a key to what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.screen import Screen

from samullm_tui.console.actions import Action, available, bindings_of, is_text
from samullm_tui.console.layout.keyline import key_at, key_line
from samullm_tui.console.layout.text import Line, pad_line, spread, style_at
from samullm_tui.console.widgets.frugal import FrugalCompositor
from samullm_tui.console.widgets.pane import Pane

if TYPE_CHECKING:
    from samullm_tui.console.app import SamullmApp
    from samullm_tui.console.themes import Theme

__all__ = ["ConsoleScreen"]

MIN_WIDTH, MIN_HEIGHT = 60, 15
MESSAGE_S = 8.0
"""How long a message stands where the keys are. What went wrong stands until the next key."""


class ConsoleScreen(Screen[None], inherit_bindings=False):
    """A screen of the console. `NAME` is its name in the registry of actions.

    An action `id` is the method `do_id`; it works when its fact is among `facts()`.
    """

    NAME: ClassVar[str] = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-too-narrow"), (MIN_WIDTH, "-narrow"), (110, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-too-low"), (MIN_HEIGHT, "-low"), (34, "-tall")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._compositor = FrugalCompositor()
        self._message: tuple[str, str] | None = None
        self.title_pane = Pane(lambda width, _: [self._title(width)], self._theme, id="title")
        self.body_pane = Pane(self.body, self._theme, id="body")
        self.key_pane = Pane(lambda width, _: [self._keys(width)], self._theme, id="keys")
        self.notice_pane = Pane(self._notice, self._theme, id="notice")

    def compose(self) -> ComposeResult:
        # Not the class's: keys are the operator's, and known only when the console runs.
        self._bindings = BindingsMap(bindings_of(self.NAME, self.console.actions))
        yield self.title_pane
        yield self.body_pane
        yield self.key_pane
        yield self.notice_pane

    @property
    def console(self) -> SamullmApp:
        """The application, by its own type."""
        app: SamullmApp = self.app  # type: ignore[assignment]
        return app

    @property
    def is_current(self) -> bool:
        """Whether this screen is on top. Ours are opaque: one below must not have the terminal repainted."""
        return self.is_active

    # What a screen says of itself

    def where(self) -> tuple[Line, Line]:
        """Left and right part of the title line: where I am, and what state it is in."""
        raise NotImplementedError

    def body(self, width: int, height: int) -> list[Line]:
        """Everything between title and key line."""
        raise NotImplementedError

    def facts(self) -> set[str]:
        """What is true now, in the words of the registry."""
        return {"below"} if len(self.app.screen_stack) > 1 else set()

    # Drawing

    def redraw(self, *, whole: bool = False) -> None:
        """Draws again what changed. A screen that is covered draws when it comes back."""
        if not self.is_current:
            return
        for pane in (self.title_pane, self.body_pane, self.key_pane, self.notice_pane):
            pane.redraw(whole=whole)

    def say(self, text: str, style: str = "") -> None:
        """A message in place of the key line, for MESSAGE_S or until the next key; what went wrong until the next key."""
        message = (text, style)
        self._message = message
        if style != "bad":
            self.set_timer(MESSAGE_S, lambda: self._unsay(message))
        self.redraw()

    def _unsay(self, message: tuple[str, str]) -> None:
        if self._message is message:
            self._message = None
            self.redraw()

    def on_screen_resume(self) -> None:
        self.redraw(whole=True)

    def _theme(self) -> Theme:
        return self.console.look

    def _title(self, width: int) -> Line:
        left, right = self.where()
        mode: Line = [("  read-only", "warning")] if self.console.start.read_only else []
        name: Line = [(" ", ""), ("samullm", "accent bold"), *mode, ("  ", "")]
        return spread([*name, *left], [*right, (" ", "")], width)

    def _keys(self, width: int) -> Line:
        if self._message:
            return pad_line([(" ", ""), self._message], width)
        return key_line(list(self._keys_shown()), width)

    def _keys_shown(self) -> dict[tuple[str, str], Action]:
        """What the key line is made of."""
        return {(action.glyph, action.label): action for action in self.available() if action.glyph}

    def _notice(self, width: int, height: int) -> list[Line]:
        text = f"{self.app.size.width}×{self.app.size.height} is too small: needs {MIN_WIDTH}×{MIN_HEIGHT}"
        lines: list[Line] = [[] for _ in range(max(0, height // 2 - 1))]
        return [*lines, pad_line([(text, "bold")], width), [("runs go on without the console", "dim")]]

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "do":
            return True
        return any(known.id == parameters[0] for known in self.available())

    def available(self) -> tuple[Action, ...]:
        """What works here now, with the keys that it has. While a text is typed characters are part of it."""
        actions = available(self.NAME, self.facts(), self.console.actions)
        if not self.takes_text:
            return actions
        return tuple(action for action in actions if not all(map(is_text, action.keys.split(","))))

    @property
    def takes_text(self) -> bool:
        """Whether a field is open."""
        return False

    def action_do(self, action: str) -> None:
        """What every binding calls."""
        perform: Callable[[], None] = getattr(self, f"do_{action}")
        perform()

    def on_key(self, event: events.Key) -> None:
        if self._message:
            self._message = None
            self.key_pane.redraw()
        if self.typed(event):
            event.stop()
            event.prevent_default()
            self.redraw()

    def typed(self, event: events.Key) -> bool:
        """Takes a key as text where the screen has a field open. True: the key is used up."""
        return False

    # The mouse, where the operator asked for it

    def on_click(self, event: events.Click) -> None:
        """On a key of the key line: does that. On a line of a list: selects it; on the selected one: as ⏎."""
        keys, body = self.key_pane.region, self.body_pane.region
        if keys.contains(event.screen_x, event.screen_y):
            shown = self._keys_shown()
            key = key_at(list(shown), keys.width, event.screen_x - keys.x)
            if key is not None and not self._message:
                self.action_do(shown[key].id)
        elif body.contains(event.screen_x, event.screen_y):
            self._point_at(event.screen_x - body.x, event.screen_y - body.y)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._roll("zoom_out" if event.ctrl else "down")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._roll("zoom_in" if event.ctrl else "up")

    def _roll(self, action: str) -> None:
        """The wheel does what a key does, if that works now."""
        if self.check_action("do", (action,)):
            self.action_do(action)

    def _point_at(self, x: int, y: int) -> None:
        """Moves the cursor to that line step by step: lists have headings in them, and windows that move along."""
        here = self._cursor_at(x)
        if here == y:
            confirm = next((one for one in self.available() if "enter" in one.keys.split(",")), None)
            self._roll(confirm.id if confirm else "")
            return
        step = "down" if here is not None and here < y else "up"
        while here is not None and (here < y if step == "down" else here > y):
            self._roll(step)
            before, here = here, self._cursor_at(x)
            if here == before:
                return

    def _cursor_at(self, x: int) -> int | None:
        """The line of the body on which the cursor is drawn, if it is drawn in that column."""
        return next((y for y, line in enumerate(self.body_pane.lines) if "cursor" in style_at(line, x)), None)

    # What works everywhere

    def do_back(self) -> None:
        self.app.pop_screen()

    def do_quit(self) -> None:
        self.app.exit(0)

    def do_interrupt(self) -> None:
        self.say("q leaves the console; runs go on without it", "warning")

    def do_theme(self) -> None:
        self.console.next_theme()

    def do_help(self) -> None:
        self.console.open_help(self)

    def do_commands(self) -> None:
        self.console.open_palette(self)

    def copy(self, text: str, what: str) -> None:
        """Puts a text on the operator's clipboard, through the terminal."""
        self.app.copy_to_clipboard(text)
        self.say(f"copied {what}: {text}", "dim")
