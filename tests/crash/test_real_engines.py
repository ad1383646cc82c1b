"""Promises 3 and 9 on the CPU build of vLLM: supervisors are killed while engines load and while they serve."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from crash_runs import Nursery, Tally, committed_rows, supervisor_pid, until
from faults import Fault
from selftest_runs import check_selftest, make_selftest

from samullm_tui.domain.event import EngineStarting, Outcome, Replanned
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.engines.processes import marked
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.history import read_history
from samullm_tui.supervisor.launch import follow, spawn_supervisor
from samullm_tui.supervisor.spec import RunPaths

pytestmark = [
    pytest.mark.engine,
    pytest.mark.torture,
    pytest.mark.skipif(installed_vllm() is None, reason="vLLM is not installed (make install-engine)"),
]

KILLS = 20
COPIES = 12
MAX_NUM_SEQS = 4
"""Of the run that switches: slow enough that a switch pays."""

LOADING_S = 25.0
ORPHANS_S = 10.0


def kill_once(paths: RunPaths, nursery: Nursery, rng: np.random.Generator, *, serving: bool) -> int:
    """One life of a supervisor, killed while its engines load, or when so many more outputs are there.

    Returns how it ended: 0 when the run was over before.
    """
    if not serving:
        return nursery.live(paths, Fault(kill_after_s=float(rng.uniform(0.0, LOADING_S))))
    ends: list[int] = []
    wanted = len(committed_rows(paths)) + int(rng.integers(1, 12))
    life = Thread(target=lambda: ends.append(nursery.live(paths, Fault())))
    life.start()
    while not ends and len(committed_rows(paths)) < wanted:
        time.sleep(float(rng.uniform(0.02, 0.2)))
    if not ends:
        os.kill(supervisor_pid(paths), signal.SIGKILL)
    life.join()
    return ends[0]


def seconds_until_nobody_is_left(run: str) -> float:
    began_s = time.monotonic()
    while marked(run) and time.monotonic() < began_s + 6 * ORPHANS_S:
        time.sleep(0.1)
    return time.monotonic() - began_s


def test_twenty_kills_of_supervisors_of_real_engines_lose_and_repeat_nothing_committed(
    tmp_path: Path, nursery: Nursery, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run is killed again and again until it is over; then the next."""
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))
    count, rng, killed, number = tally.of("SIGKILL at random, real engines"), np.random.default_rng(4), 0, 0
    while killed < KILLS:
        number += 1
        paths = make_selftest(tmp_path / f"app-{number}")
        kept: list[dict[str, object]] = []
        while not read_history(paths).is_over:
            last = killed >= KILLS
            if last:
                status = nursery.live(paths, Fault())
            else:
                status = kill_once(paths, nursery, rng, serving=bool(rng.random() < 0.7))
            assert status in {0, -signal.SIGKILL}, paths.log.read_text()
            killed += status < 0
            count.faults += status < 0
            left_s = seconds_until_nobody_is_left(paths.run)
            count.orphans += left_s > ORPHANS_S
            assert left_s <= ORPHANS_S, "engines outlived their supervisor"
            rows = committed_rows(paths)
            assert rows[: len(kept)] == kept, "a committed output is not what it was"
            kept = rows
        check_selftest(paths, count)
        assert count.repeated <= count.in_flight
    count.survived += killed


ONE_AFTER_THE_OTHER = Plan(
    planner="given",
    stages=tuple(Stage((Placement(llm, 1, 1, (0,)),), (llm,)) for llm in ("llama", "qwen3", "gpt2")),
)
"""GPU 1 stands idle, and the judge waits for both others: nearly any other plan is better."""


def test_a_re_plan_switches_engines_under_way_and_loses_nothing(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))
    paths = make_selftest(tmp_path / "app", COPIES, MAX_NUM_SEQS, ONE_AFTER_THE_OTHER)
    spawn_supervisor(paths.run)
    until(lambda: len(committed_rows(paths)) >= 20)
    ControlClient(paths).replan("test")
    for _ in follow(paths.run):
        pass
    count = tally.of("re-plan, real engines")
    count.faults += 1
    check_selftest(paths, count)
    events = list(read_events(paths.journal))
    switch = next(k for k, event in enumerate(events) if isinstance(event, Replanned))
    started = [event.replica for event in events[switch:] if isinstance(event, EngineStarting)]
    assert any(1 in replica.gpus for replica in started), "what stood idle is used"
    assert any(isinstance(event, Outcome) for event in events[switch:]), "what came of it is told"
    count.survived += 1


def test_one_run_survives_everything_in_one_go(tmp_path: Path, tally: Tally) -> None:
    """The console, the supervisor, an engine core and an API server are killed, and the disk is full for ten seconds."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    count = tally.of("all in one run, real engines")
    script = Path(__file__).with_name("demonstration.py")
    done = subprocess.run(
        [*unshare, sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    print(done.stdout)
    count.faults += done.stdout.count("KILLED") + done.stdout.count("FILLED")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each exactly once (0 lost, 0 doubled, 0 orphans)" in done.stdout
    assert count.faults == 5
    count.survived += 5
