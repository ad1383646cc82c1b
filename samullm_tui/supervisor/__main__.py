"""`python -m samullm_tui.supervisor RUN_DIR`."""

from __future__ import annotations

import sys

from samullm_tui.supervisor.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
