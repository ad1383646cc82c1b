"""The console on fake sources, as a program in a terminal of its own. Arguments: a folder for its files, "crash"."""

import sys
from pathlib import Path

from samullm_tui.console.app import SamullmApp, Start
from tests.console.fakes import RUN, FakeSources, beginning, middle


class CrashingApp(SamullmApp):
    """Has a mistake that shows after a while."""

    def on_ready(self) -> None:
        self.set_timer(1.0, self._crash)

    def _crash(self) -> None:
        raise IndexError


kind = CrashingApp if "crash" in sys.argv[2:] else SamullmApp
app = kind(FakeSources(Path(sys.argv[1]), [*beginning(), *middle()]), Start(run=RUN), theme="dark")
status = app.run(mouse=False)
sys.exit(app.return_code or 1 if status is None else status)
