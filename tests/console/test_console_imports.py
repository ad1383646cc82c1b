"""The first screen needs none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("numpy", "scipy", "numba", "aiohttp", "torch", "pydantic", "pynvml", "vllm")


def test_the_console_starts_without_heavy_imports() -> None:
    code = f"import samullm_tui.console.app, samullm_tui.console.local, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
