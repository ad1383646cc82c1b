"""Ctrl-C: exit status 130, no traceback, and a run that is stopped, not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samullm_tui.supervisor.runs import list_runs
from tests.cli.conftest import APPS

DEADLINE_S = 100


@pytest.fixture
def started(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `samullm-tui` with SIGINT at its default, as a terminal has it."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "samullm_tui", *map(str, arguments)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
            # Whoever runs the tests in the background may ignore SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def line_of(process: subprocess.Popen[str], words: str) -> None:
    """Reads stderr until a line holds `words`."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"never said {words!r}")


def test_while_planning(started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started("plan", APPS / "ensembling.toml", "--cluster", "a100-80g:8", "--samples", 200, "--json")
    line_of(process, "engine: simulated")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_while_running_the_run_is_drained_and_kept(started: Callable[..., subprocess.Popen[str]]) -> None:
    process = started("run", APPS / "selftest.toml", "--engine", "simulated", "--cluster", "cpu:2", "--yes")
    line_of(process, "is loading")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "stopped" in out
    (summary,) = list_runs()
    assert (summary.status, summary.pid) == ("stopped", None)


def test_before_the_supervisor_answers_no_run_goes_on_unseen(
    started: Callable[..., subprocess.Popen[str]], home: Path
) -> None:
    process = started("run", APPS / "ensembling.toml", "--engine", "simulated", "--yes")
    wait_for(lambda: any(home.glob("runs/*/supervisor.log")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert [summary.status for summary in list_runs()] == ["stopped"]
