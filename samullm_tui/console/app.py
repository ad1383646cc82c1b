"""The application: themes, the screen to begin with, and leaving the terminal as it was found."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import ClassVar

from msgspec import Struct
from textual.app import App

from samullm_tui.console.actions import only_looking
from samullm_tui.console.keymap import load_keys
from samullm_tui.console.layout.ascii import wants_ascii
from samullm_tui.console.screens.base import ConsoleScreen
from samullm_tui.console.screens.library import LibraryScreen
from samullm_tui.console.sources import Settings, Sources
from samullm_tui.console.themes import Theme, load_themes
from samullm_tui.console.threads import in_thread
from samullm_tui.console.views.common import brief
from samullm_tui.domain.errors import SamullmError
from samullm_tui.locations import THEMES, user_keys, user_themes

__all__ = ["SamullmApp", "Start", "run_console", "run_in_terminal"]

SIXTEEN = "sixteen"
FIRST = "dark"
BEHIND_WRITES = 2

CSS = """
Screen { layers: base; background: ansi_default; overflow: hidden; }
#title, #keys { height: 1; }
#notice { display: none; }
Screen.-too-narrow #title, Screen.-too-narrow #body, Screen.-too-narrow #keys,
Screen.-too-low #title, Screen.-too-low #body, Screen.-too-low #keys { display: none; }
Screen.-too-narrow #notice, Screen.-too-low #notice { display: block; }
"""


class Start(Struct, frozen=True):
    """What to open first: one of these, or the library. `read_only`: no run is started or changed.

    `mouse`: the terminal reports the mouse; its own selection of text then needs shift.
    """

    application: Path | None = None
    run: str | None = None
    recording: Path | None = None
    speed: float = 1.0
    playing: bool = True
    read_only: bool = False
    mouse: bool = False


class SamullmApp(App[int], inherit_bindings=False):
    """The console. `sources` is everything outside of it."""

    CSS = CSS
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, sources: Sources, start: Start | None = None, theme: str = "") -> None:
        # Our styles are exact xterm-256 numbers: Textual must pass them on as they are.
        super().__init__(ansi_color=True)
        self.sources = sources
        self.start = start or Start()
        self.cache: dict[str, object] = {}
        self.ascii_only = wants_ascii(os.environ)
        self._themes, problems = load_themes((THEMES, user_themes()))
        actions, wrong_keys = load_keys(user_keys())
        self.actions = only_looking(actions) if self.start.read_only else actions
        self._problems = [*problems, *wrong_keys]
        self._look = self._themes.get(theme) or self._first_theme()
        self.theme = "ansi-dark"

    # Themes

    @property
    def look(self) -> Theme:
        """The theme in use."""
        return self._look

    def _first_theme(self) -> Theme:
        """The operator's last choice, else one that the terminal can show."""
        poor = self.console.color_system == "standard"
        for name in (self.sources.saved_theme(), SIXTEEN if poor else FIRST):
            if name in self._themes:
                return self._themes[name]
        return next(iter(self._themes.values()))

    def next_theme(self) -> None:
        """The next theme by name, from now on and at the next start."""
        names = sorted(self._themes)
        name = names[(names.index(self._look.name) + 1) % len(names)]
        self._look = self._themes[name]
        screen = self.screen
        if isinstance(screen, ConsoleScreen):
            screen.redraw(whole=True)
            screen.say(f"theme: {self._look.title}", "dim")
        self.sources.save_theme(name)

    # Beginning and end

    async def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Textual dies of these without restoring the terminal.
            loop.add_signal_handler(number, self.exit, 128 + number)
        await self.push_screen(LibraryScreen())
        if self.start.application:
            self.open_application(self.start.application)
        elif self.start.run:
            self.open_run(self.start.run)
        elif self.start.recording:
            self.open_recording(self.start.recording, speed=self.start.speed, playing=self.start.playing)
        screen = self.screen
        if self._problems and isinstance(screen, ConsoleScreen):
            more = f" (and {len(self._problems) - 1} more)" if len(self._problems) > 1 else ""
            screen.say(f"{self._problems[0]}{more}", "warning")

    # Whether anybody sees what is drawn

    @property
    def watching(self) -> bool:
        """False while the terminal says that it lost the focus, as a detached tmux does."""
        return self.app_focus

    @property
    def terminal_is_behind(self) -> bool:
        """Whether earlier writes still wait for the terminal: more of them would only block."""
        writer = getattr(self._driver, "_writer_thread", None)
        return writer is not None and writer._queue.qsize() > BEHIND_WRITES  # noqa: SLF001

    # Going somewhere. Screens are imported when they are opened: the library is there sooner.

    def open_application(self, path: Path) -> None:
        from samullm_tui.console.screens.application import ApplicationScreen

        self.push_screen(ApplicationScreen(path))

    def open_run(self, run: str, *, instead: bool = False) -> None:
        """Shows a run, on top of the present screen or instead of it."""
        from samullm_tui.console.screens.run import RunScreen

        screen = RunScreen(run)
        if instead:
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def open_recording(self, path: Path, *, speed: float = 1.0, playing: bool = True) -> None:
        from samullm_tui.console.screens.replay import ReplayScreen

        self.push_screen(ReplayScreen(path, speed=speed, playing=playing))

    def open_help(self, screen: ConsoleScreen) -> None:
        from samullm_tui.console.screens.help import HelpScreen

        self.push_screen(HelpScreen(screen.NAME))

    def open_palette(self, screen: ConsoleScreen) -> None:
        from samullm_tui.console.screens.help import PaletteScreen

        self.push_screen(PaletteScreen(screen))

    def resume(self, screen: ConsoleScreen, run: str) -> None:
        """Starts a supervisor on an interrupted run, and says how that went on `screen`."""
        self.run_worker(self._resume(screen, run), group="resume")

    async def _resume(self, screen: ConsoleScreen, run: str) -> None:
        screen.say(f"resuming {run} …", "dim")
        try:
            await in_thread(self.sources.resume, run)
        except SamullmError as error:
            screen.say(f"not resumed: {brief(error.problems[0])}", "bad")
            return
        screen.say(f"{run} goes on", "good")


def run_console(start: Start | None = None, settings: Settings | None = None) -> int:
    """The console on this machine. Returns the exit status."""
    from samullm_tui.console.local import LocalSources

    return run_in_terminal(SamullmApp(LocalSources(settings or Settings()), start))


def run_in_terminal(app: SamullmApp) -> int:
    """Runs until the operator leaves. Returns the exit status: 0, or 128 and the signal that ended it."""
    status = app.run(mouse=app.start.mouse)
    return app.return_code or 1 if status is None else status
