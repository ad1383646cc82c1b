"""Promises 3, 21 and 23 on real supervisors: stopped and continued ones are fenced off, killed ones replaced."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_runs import Tally, committed_rows, supervisor_pid, until

from samullm_tui.domain.errors import JournalError, RunError
from samullm_tui.domain.event import AnyEvent, ControlReceived, RequestFinished, SupervisorStarted
from samullm_tui.engines.processes import alive
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor import liveness
from samullm_tui.supervisor.launch import follow, spawn_supervisor
from samullm_tui.supervisor.outputs import OutputRow
from samullm_tui.supervisor.record import Record
from samullm_tui.supervisor.runs import result, run_summary
from samullm_tui.supervisor.spec import RunPaths

MakeRun = Callable[..., RunPaths]
MANY = 600
"""Records of runs that are to be met in the middle."""


@pytest.fixture
def end(make_run: MakeRun) -> Callable[[RunPaths], None]:
    def follow_to_the_end(paths: RunPaths) -> None:
        for _ in follow(paths.run):
            pass
        assert result(paths.run).status == "succeeded"
        rows = committed_rows(paths)
        assert len({(row["node"], row["id"]) for row in rows}) == len(rows) == 2 * MANY

    return follow_to_the_end


def test_a_stopped_supervisor_is_told_taken_over_and_never_writes_again(
    make_run: MakeRun, end: Callable[[RunPaths], None], tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "STALE_S", 1.5)
    monkeypatch.setattr(liveness, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr("samullm_tui.supervisor.launch.ANSWER_S", 0.3)
    count = tally.of("SIGSTOP, resume, SIGCONT")
    count.faults += 1
    paths = make_run(MANY, speed=40.0)
    spawn_supervisor(paths.run)
    pid = supervisor_pid(paths)
    until(lambda: run_summary(paths.run).outputs >= 5)
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: run_summary(paths.run).status == "interrupted")
        assert run_summary(paths.run).pid == pid, "it is said who hangs"
        spawn_supervisor(paths.run)
        assert not alive(pid)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGCONT)
    end(paths)
    assert [e.epoch for e in read_events(paths.journal) if isinstance(e, SupervisorStarted)] == [1, 2]
    count.survived += 1


def test_a_supervisor_that_answers_is_not_taken_over_however_old_its_heartbeat(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "STALE_S", -1.0)
    paths = make_run(approved=False)
    spawn_supervisor(paths.run)
    pid = supervisor_pid(paths)
    with pytest.raises(RunError, match="has a supervisor already"):
        spawn_supervisor(paths.run)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))


def test_only_the_process_that_holds_the_lock_is_ever_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number in an old heartbeat may be another process's by now."""
    monkeypatch.setattr(liveness, "STALE_S", 0.0)
    monkeypatch.setattr(liveness, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(liveness, "FENCED_S", 0.1)
    lock, heartbeat = tmp_path / "lock", tmp_path / "heartbeat"
    held = liveness.RunLock(lock)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        heartbeat.write_text(f'{{"pid": {bystander.pid}, "boot_s": 0.0}}')
        with pytest.raises(RunError, match=f"process {bystander.pid}. hangs and cannot be killed"):
            liveness.fence(lock, heartbeat)
        assert bystander.poll() is None
    held.release()


def test_a_heart_that_beats_is_not_fenced_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a machine was asleep: the heartbeat is old for a moment, and then it is not."""
    monkeypatch.setattr(liveness, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(liveness, "STALE_S", -1.0)
    lock = liveness.RunLock(tmp_path / "lock")
    heart = liveness.Heart(tmp_path / "heartbeat")
    assert not liveness.fence(tmp_path / "lock", tmp_path / "heartbeat")
    heart.stop()
    lock.release()


def test_the_heart_of_a_supervisor_whose_loop_hangs_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "HEARTBEAT_S", 0.01)
    heart, loop = liveness.Heart(tmp_path / "heartbeat"), asyncio.new_event_loop()
    first = liveness.read_heartbeat(tmp_path / "heartbeat")
    until(lambda: liveness.read_heartbeat(tmp_path / "heartbeat") != first)
    heart.follow(loop)
    waiting = loop._ready  # type: ignore[attr-defined]
    until(lambda: len(waiting) >= 1)
    before = liveness.read_heartbeat(tmp_path / "heartbeat")
    until(lambda: len(waiting) >= 5)
    assert liveness.read_heartbeat(tmp_path / "heartbeat") == before
    loop.run_until_complete(asyncio.sleep(0))
    assert liveness.read_heartbeat(tmp_path / "heartbeat") != before
    heart.stop()
    loop.close()


def finished(k: int) -> tuple[OutputRow, RequestFinished]:
    common = {
        "id": str(k),
        "node": "n",
        "llm": "a",
        "finish_reason": "stop",
        "prompt_tokens": 1,
        "output_tokens": 1,
    }
    row = OutputRow(output="", **common)  # type: ignore[arg-type]
    return row, RequestFinished(at_s=0.0, replica="a.0", sent_s=0.0, offset=0, **common)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [True, False])
def test_whoever_finds_that_another_writes_stops_writing(tmp_path: Path, rows: bool) -> None:
    """The last fence, where a lock is none: on a network's file system, or when somebody removed it."""
    paths, troubles = RunPaths(tmp_path), list[str]()

    def put(record: Record, k: int) -> None:
        if rows:
            record.output(*finished(k))
        else:
            record.emit(ControlReceived(at_s=0.0, command="pause", by=str(k)))

    old = Record(paths, 0, 0, troubles.append)
    put(old, 1)
    until(lambda: paths.journal.stat().st_size > 0)
    new = Record(paths, paths.outputs.stat().st_size, 0, lambda _: None)
    put(new, 2)
    until(lambda: len(list(read_events(paths.journal))) == 2)
    put(old, 3)
    until(lambda: any("somebody else writes to it" in trouble for trouble in troubles))
    put(new, 4)
    new.close()
    with pytest.raises(JournalError, match="somebody else writes"):
        old.close()
    written = [json.loads(line)["id"] for line in paths.outputs.read_text().splitlines()]
    assert written == (["1", "2", "4"] if rows else [])
    assert [_number(event) for event in read_events(paths.journal)] == ["1", "2", "4"]


def _number(event: AnyEvent) -> str:
    return event.id if isinstance(event, RequestFinished) else event.by  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def strace() -> str:
    program = shutil.which("strace")
    probe = [program or "", "-o", os.devnull, "-e", "inject=fdatasync:error=EIO", "true"]
    if program is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no strace that may inject faults")
    return program


def kill_real_ones(
    numbers: range, strace: str, make_run: MakeRun, end: Callable[[RunPaths], None], tally: Tally
) -> None:
    """Supervisors as they are, killed from outside at the n-th fdatasync; the next one is left alone."""
    count = tally.of("SIGKILL at fdatasync, by strace")
    for nth in numbers:
        paths = make_run(MANY, speed=40.0)
        inject = f"inject=fdatasync:signal=KILL:when={nth}"
        traced = [strace, "-f", "-o", os.devnull, "-e", "trace=fdatasync", "-e", inject]
        subprocess.run(
            [*traced, sys.executable, "-m", "samullm_tui.supervisor", str(paths.folder)], check=True
        )
        until(lambda paths=paths: not liveness.is_locked(paths.lock))  # type: ignore[misc]
        kept = committed_rows(paths)
        killed = run_summary(paths.run).status == "interrupted"
        assert killed or result(paths.run).status == "succeeded"
        if killed:
            count.faults += 1
            spawn_supervisor(paths.run)
            end(paths)
            assert committed_rows(paths)[: len(kept)] == kept
            count.survived += 1
    assert count.faults, "not one of them was killed"


@pytest.mark.torture
def test_real_supervisors_killed_at_each_fdatasync_are_replaced(
    strace: str, make_run: MakeRun, end: Callable[[RunPaths], None], tally: Tally
) -> None:
    kill_real_ones(range(2, 9, 3), strace, make_run, end, tally)
