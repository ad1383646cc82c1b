"""The console on fake sources, as a program in a terminal of its own. Arguments: a folder for its files."""

import sys
from pathlib import Path

from samullm_tui.console.app import SamullmApp, Start
from tests.console.fakes import RUN, FakeSources, beginning, middle

app = SamullmApp(FakeSources(Path(sys.argv[1]), [*beginning(), *middle()]), Start(run=RUN), theme="dark")
status = app.run(mouse=False)
sys.exit(status)
