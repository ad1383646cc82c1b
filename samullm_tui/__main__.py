"""`python -m samullm_tui`."""

from samullm_tui.cli.main import main

raise SystemExit(main())
