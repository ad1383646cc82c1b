"""The product's own verbs, called as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.gpu.place import Place
from samullm_tui.domain.errors import EngineError, Problem

__all__ = ["samullm"]


def samullm(place: Place, *arguments: str, timeout_s: float) -> Any:
    """The JSON object that a verb prints; its messages go where ours go. Raises EngineError when it fails.

    Its home is the place's own: no profile or run of whoever measures is seen. It ends when the time is up, and its
    engines with it.
    """
    command = [sys.executable, "-m", "samullm_tui", *arguments, "--json"]
    environment = {**os.environ, "SAMULLM_HOME": str(place.folder("home"))}
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, check=False, timeout=max(timeout_s, 1.0)
        )
    except subprocess.TimeoutExpired:
        raise EngineError(Problem(arguments[0], "", f"not done within {timeout_s:.0f} s")) from None
    if done.returncode != 0:
        raise EngineError(
            Problem(arguments[0], "", f"ended with status {done.returncode} (its words are above)")
        )
    return json.loads(done.stdout)
