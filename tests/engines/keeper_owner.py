"""An owner of a kept process, for tests that kill owners: `python keeper_owner.py COOKIE LOG`; prints the process id."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from samullm_tui.engines.kept_process import KeptProcess
from samullm_tui.engines.processes import COOKIE

STUBBORN = Path(__file__).with_name("keeper_stubborn.py")


async def own(cookie: str, log: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(STUBBORN), "root"]
    process = await KeptProcess.start(argv, {**os.environ, COOKIE: cookie}, log, cookie, grace_s=0.3)
    print(process.pid, flush=True)
    await process.exited()


if __name__ == "__main__":
    asyncio.run(own(sys.argv[1], Path(sys.argv[2])))
