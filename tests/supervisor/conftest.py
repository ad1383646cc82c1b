"""A small application, and a home of its own for the runs of each test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samullm_tui.domain.cluster import Cluster, cluster_from_preset
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.supervisor.launch import create_run
from samullm_tui.supervisor.liveness import is_locked, read_heartbeat
from samullm_tui.supervisor.spec import RunPaths, existing_run

APPLICATION = Path(__file__).with_name("small.toml").read_text()
RECORDS = 1000

PLAN = Plan(
    planner="given",
    stages=(
        Stage((Placement("llama", 1, 1, (0,)), Placement("qwen3", 1, 1, (1,))), ("llama",)),
        Stage((Placement("qwen3", 1, 2, (1, 0)),), ("qwen3",)),
    ),
)
"""Given, because planning takes longer than all the rest."""


@pytest.fixture
def runs_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs are kept below a deep folder: a socket's address is short. No supervisor outlives the test."""
    home = tmp_path / ("deep-" * 20) / "home"
    monkeypatch.setenv("SAMULLM_HOME", str(home))
    yield home
    for spec in home.glob("runs/*/spec.json"):
        paths = RunPaths(spec.parent)
        heartbeat = read_heartbeat(paths.heartbeat)
        if is_locked(paths.lock) and heartbeat:
            os.kill(heartbeat.pid, signal.SIGKILL)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    records = (f'{{"id": "q{k}", "question": "What is {k} times {k}?"}}\n' for k in range(RECORDS))
    (tmp_path / "questions.jsonl").write_text("".join(records))
    (tmp_path / "small.toml").write_text(APPLICATION)
    return tmp_path / "small.toml"


@pytest.fixture
def cluster() -> Cluster:
    return cluster_from_preset("cpu:2")


@pytest.fixture
def make_run(runs_home: Path, application: Path, cluster: Cluster) -> Callable[..., RunPaths]:
    """Creates a simulated run with few draws, approved unless told otherwise."""

    def make(**options: object) -> RunPaths:
        given = {"approved": True, "samples": 1, "speed": "max", "plan": PLAN, **options}
        return existing_run(create_run(application, cluster, "simulated", **given))  # type: ignore[arg-type]

    return make


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that will surely happen; how long it takes is the machine's business."""

    def wait(happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.02)

    return wait
