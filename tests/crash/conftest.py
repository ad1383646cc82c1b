"""Small simulated runs, the nursery that their supervisors come from, and one table of all that was tried."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from crash_runs import RECORDS, Nursery, Tally, make_application

from samullm_tui.supervisor.spec import RunPaths

# The scripted engines of the supervisor's tests are used here, too.
sys.path.insert(0, str(Path(__file__).parents[1] / "supervisor"))

TALLY = pytest.StashKey[Tally]()
MakeRun = Callable[..., RunPaths]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A table with anything lost, doubled or left over fails, whatever else was said."""
    tally = session.config.stash[TALLY]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = msgspec.json.encode(tally).decode()
    total = tally.total
    if (total.lost or total.doubled or total.orphans) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker of pytest-xdist tried belongs to the same table; one that crashed has failed its test."""
    told = getattr(node, "workeroutput", {}).get("tally", "{}")
    node.config.stash[TALLY].add(msgspec.json.decode(told, type=Tally))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[TALLY].lines():
        terminalreporter.write_line(line)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    return request.config.stash[TALLY]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    command = [sys.executable, str(Path(__file__).with_name("nursery.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Creates an approved simulated run at full speed, unless told otherwise."""
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))

    def make(records: int = RECORDS, **options: object) -> RunPaths:
        folder = tmp_path / f"app-{records}"
        folder.mkdir(exist_ok=True)
        return make_application(folder, records, **options)

    return make
