"""How tests call the command line: as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

APPS = Path(__file__).resolve().parents[2] / "apps"

Verb = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for runs of their own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("SAMULLM_HOME", str(folder))
    return folder


@pytest.fixture
def verb() -> Verb:
    """`verb("plan", app, "--cluster", …)`: the JSON object on stdout of `samullm-tui plan … --json`."""

    def call(*arguments: object, status: int = 0, timeout_s: float = 280) -> Any:
        command = [sys.executable, "-m", "samullm_tui", *map(str, arguments), "--json"]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, env=dict(os.environ)
        )
        assert result.returncode == status, result.stderr
        assert "Traceback" not in result.stderr
        return json.loads(result.stdout)

    return call
