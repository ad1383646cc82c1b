"""The product's own verbs, called as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from benchmarks.gpu.place import Place
from samullm_tui.domain.errors import EngineError, Problem

__all__ = ["end_runs", "last_object", "samullm"]

LIST_S = 60.0
ENDED = {"succeeded", "failed", "stopped"}


def samullm(place: Place, *arguments: str, timeout_s: float) -> Any:
    """The JSON object that a verb prints; its messages go where ours go. Raises EngineError when it fails.

    Its home is the place's own: no profile or run of whoever measures is seen. When the time is up it ends, and the
    run that it started.
    """
    command = [sys.executable, "-m", "samullm_tui", *arguments, "--json"]
    environment = {**os.environ, "SAMULLM_HOME": str(place.folder("home"))}
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, check=False, timeout=max(timeout_s, 1.0)
        )
    except subprocess.TimeoutExpired:
        end_runs(place)
        raise EngineError(
            Problem(arguments[0], "", f"not done within the {timeout_s:.0f} s that were left")
        ) from None
    if done.returncode != 0:
        raise EngineError(
            Problem(arguments[0], "", f"ended with status {done.returncode} (its words are above)")
        )
    return json.loads(done.stdout)


def last_object(output: str) -> dict[str, Any]:
    """The last JSON object among the lines: vLLM logs to the same place, also after it. Raises EngineError."""
    for line in reversed(output.splitlines()):
        with suppress(json.JSONDecodeError):
            if isinstance(found := json.loads(line), dict):
                return found
    raise EngineError(Problem("engine", "", "it ended without a result"))


def end_runs(place: Place) -> None:
    """A run outlives the verb that started it: ends those of the place's home. Their keepers end the engines."""
    for run in samullm(place, "runs", timeout_s=LIST_S)["runs"]:
        if run["pid"] is not None and run["status"] not in ENDED:
            with suppress(ProcessLookupError):
                os.kill(run["pid"], signal.SIGKILL)
