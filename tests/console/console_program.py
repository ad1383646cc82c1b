"""The console on fake sources, as a program in a terminal of its own. Arguments: a folder for its files, "crash", "mouse"."""

import sys
from pathlib import Path

from samullm_tui.console.app import SamullmApp, Start, run_in_terminal
from tests.console.fakes import RUN, FakeSources, beginning, middle


class CrashingApp(SamullmApp):
    """Has a mistake that shows after a while."""

    def on_ready(self) -> None:
        self.set_timer(1.0, self._crash)

    def _crash(self) -> None:
        raise IndexError


words = sys.argv[2:]
kind = CrashingApp if "crash" in words else SamullmApp
start = Start(run=RUN, mouse="mouse" in words)
sys.exit(
    run_in_terminal(kind(FakeSources(Path(sys.argv[1]), [*beginning(), *middle()]), start, theme="dark"))
)
