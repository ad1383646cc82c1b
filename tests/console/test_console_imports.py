"""The first screen needs none of the heavy libraries, and none of the other screens: both cost time to first paint."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "scipy", "numba", "aiohttp", "torch", "pydantic", "pynvml", "vllm")
FIRST = {"base", "library", "scrolling"}
SCREENS = "samullm_tui.console.screens."


def imported() -> set[str]:
    code = "import samullm_tui.console.app, samullm_tui.console.local, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_console_starts_without_heavy_imports() -> None:
    modules = imported()
    assert not modules.intersection(HEAVY)
    assert {name.removeprefix(SCREENS) for name in modules if name.startswith(SCREENS)} == FIRST
