"""A million requests: memory is flat, the supervisor is cheap, the journal is complete, whoever reads it needs little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_runs import Count, Tally, committed_rows, until
from soak import Usage, make_soak, watch

from samullm_tui.domain.event import RequestFinished, SupervisorStarted
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.liveness import is_locked
from samullm_tui.supervisor.runs import result
from samullm_tui.supervisor.spec import RunPaths

pytestmark = pytest.mark.torture

MILLION = 1_000_000
GROWTH = 1.03
"""How much more the most memory of the whole run may be than that of its first fifth."""

CPU_S = 1.0
"""CPU seconds for a thousand finished requests: one core at a thousand a second."""

READER_MIB = 400
"""What a verb may take that reads a million requests."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))
    return tmp_path


def check_complete(paths: RunPaths, requests: int, count: Count) -> None:
    """Every request once in the outputs and once in the journal."""
    rows = [(row["node"], row["id"]) for row in committed_rows(paths)]
    events = [(e.node, e.id) for e in read_events(paths.journal) if isinstance(e, RequestFinished)]
    wanted = {(node, f"{k:04}") for node in ("answer", "judge") for k in range(1, requests // 2 + 1)}
    count.lost += len(wanted - set(rows))
    count.doubled += len(events) - len(set(events))
    assert len(rows) == len(events) == requests
    assert set(rows) == set(events) == wanted
    assert result(paths.run).status == "succeeded"


def check_flat(seen: list[Usage], requests: int) -> tuple[float, float]:
    """Returns CPU seconds per thousand requests and the growth of the memory."""
    first = next(usage for usage in seen if usage.outputs >= requests // 5)
    last = seen[-1]
    cpu_s = (last.cpu_s - first.cpu_s) / (last.outputs - first.outputs) * 1000
    growth = last.peak_mib / first.peak_mib
    assert growth <= GROWTH, seen
    assert cpu_s <= CPU_S, seen
    return cpu_s, growth


def most_mib(*arguments: object) -> float:
    """The most memory that a verb takes."""
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run([sys.executable, '-m', 'samullm_tui', *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def kill_at(outputs: int, count: Count) -> Callable[[Usage, int], bool]:
    def act(usage: Usage, pid: int) -> bool:
        if usage.outputs < outputs:
            return True
        os.kill(pid, signal.SIGKILL)
        count.faults += 1
        return False

    return act


def test_a_million_requests_in_flat_memory(home: Path, tally: Tally) -> None:
    paths = make_soak(home, MILLION)
    cpu_s, growth = check_flat(watch(paths, MILLION // 20), MILLION)
    mib = {"runs": most_mib("runs"), "export": most_mib("export", paths.run, "-o", home / "out.jsonl")}
    assert max(mib.values()) <= READER_MIB, mib
    kind = f"soak, 1,000,000 requests: {cpu_s:.2f} CPU s per 1,000, memory ×{growth:.3f} from 200,000 on"
    check_complete(paths, MILLION, tally.of(kind))


def test_a_million_requests_killed_near_the_end_go_on_in_little_memory(home: Path, tally: Tally) -> None:
    paths = make_soak(home, MILLION)
    count = tally.of("SIGKILL in 1,000,000 requests")
    before = watch(paths, MILLION // 20, kill_at(MILLION * 9 // 10, count))
    until(lambda: not is_locked(paths.lock))
    after = watch(paths, MILLION // 100)
    assert max(usage.resident_mib for usage in after) <= 2.0 * before[-1].resident_mib, (before, after)
    check_complete(paths, MILLION, count)
    assert [e.epoch for e in read_events(paths.journal) if isinstance(e, SupervisorStarted)] == [1, 2]
    count.survived += count.faults
