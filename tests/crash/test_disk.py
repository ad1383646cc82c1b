"""Promises 4 to 7: torn files, disks that are full, clocks that jump."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from crash_runs import Count, Nursery, Tally, check_run, ends_of
from faults import Call, Fault
from msgspec.structs import replace
from test_kills import WELL, Expected, ends_without_faults, survive

from samullm_tui.domain.event import AnyEvent, PlanningFinished, SupervisorStarted
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.spec import RunPaths

MakeRun = Callable[..., RunPaths]
ONE_FILE = replace(WELL, segment_bytes=10**9)
WRITES: list[Call] = ["write", "pwrite", "fdatasync", "rename"]


# --- torn files ---


def tear(paths: RunPaths, keep: int, tail: bytes, copy: Path) -> RunPaths:
    """A copy of a run whose journal was cut off at this byte, with something else behind it."""
    shutil.copytree(paths.folder, copy, ignore=shutil.ignore_patterns("control.sock"))
    torn = RunPaths(copy)
    torn.journal.write_bytes(paths.journal.read_bytes()[:keep] + tail)
    (copy / "sends").unlink()
    return torn


def tear_at(cuts: Iterable[int], make_run: MakeRun, nursery: Nursery, count: Count) -> None:
    paths = make_run()
    assert nursery.live(paths, ONE_FILE) == 0
    expected = ends_of(paths, list(read_events(paths.journal)))
    begin = paths.journal.read_bytes().index(b"\n") + 1
    end = paths.journal.stat().st_size
    for number, cut in enumerate(cuts):
        keep = begin + cut % (end - begin)
        tail = (b"", bytes(300), b'0000002a 1234abcd {"event":"Requ')[number % 3]
        torn = tear(paths, keep, tail, paths.folder.with_name(f"torn-{number}"))
        count.faults += 1
        assert nursery.live(torn, WELL) == 0, torn.log.read_text()
        check_run(torn, expected, count)
        count.survived += 1


def test_a_journal_torn_at_any_byte_goes_on_from_there(
    make_run: MakeRun, nursery: Nursery, tally: Tally
) -> None:
    tear_at([1, 20011, 40013], make_run, nursery, tally.of("torn journal"))


@pytest.mark.torture
def test_a_journal_torn_at_hundreds_of_bytes_goes_on_from_there(
    make_run: MakeRun, nursery: Nursery, tally: Tally
) -> None:
    rng = np.random.default_rng(5)
    tear_at(rng.integers(0, 10**6, 300).tolist(), make_run, nursery, tally.of("torn journal"))


# --- full disks ---


def fill(lives: int, seed: int, call: Call, make_run: MakeRun, nursery: Nursery, count: Count) -> None:
    """Runs during which the disk is full now and then, some of them killed on top of it."""
    expected: Expected = ends_without_faults(make_run, nursery)
    rng = np.random.default_rng(seed)
    for number in range(lives):
        times = tuple(sorted(rng.integers(1, 60 if call != "rename" else 8, 4).tolist()))
        fault = replace(WELL, full_at=(call, times))
        if number % 2:
            fault = replace(fault, kill_after_s=float(rng.uniform(0.0, 0.2)))
        count.faults += len(times)
        killed = survive(make_run(), nursery, [fault], Count(), expected)
        assert killed <= number % 2, "a full disk ends no supervisor"
        count.survived += len(times)


@pytest.mark.parametrize("call", WRITES)
def test_a_disk_that_is_full_for_a_while_loses_nothing(
    make_run: MakeRun, nursery: Nursery, tally: Tally, call: Call
) -> None:
    fill(2, 1, call, make_run, nursery, tally.of(f"disk full at {call}"))


@pytest.mark.torture
@pytest.mark.parametrize("call", WRITES)
def test_a_disk_that_is_full_again_and_again_loses_nothing(
    make_run: MakeRun, nursery: Nursery, tally: Tally, call: Call
) -> None:
    fill(30, 2, call, make_run, nursery, tally.of(f"disk full at {call}"))


def test_on_a_file_system_without_room_a_run_pauses_says_why_and_goes_on_when_there_is_room(
    tmp_path: Path, tally: Tally
) -> None:
    """A real file system that is full, under a real supervisor; it has another one only in a name space of its own."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = [*unshare, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    count = tally.of("file system full")
    count.faults += 1
    script = Path(__file__).with_name("full_file_system.py")
    done = subprocess.run(
        [*unshare, sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert "No space left on device" in told["trouble"]
    assert f"(on the file system {tmp_path})" in told["trouble"]
    assert told["outputs_while_full"][0] == told["outputs_while_full"][1] < told["requests"]
    assert (told["status"], told["outputs"], told["rows"]) == (
        "succeeded",
        told["requests"],
        told["requests"],
    )
    count.survived += 1


# --- clocks ---


def decided(events: Iterable[AnyEvent]) -> list[AnyEvent]:
    """Everything but what tells of the machine: process ids, times of the day, how long planning took."""
    return [e for e in events if not isinstance(e, SupervisorStarted | PlanningFinished)][1:]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_clock_that_jumps_changes_no_decision(
    make_run: MakeRun, nursery: Nursery, tally: Tally, seed: int
) -> None:
    count = tally.of("clock jumps")
    steady, jumping = make_run(), make_run()
    for paths, fault in ((steady, WELL), (jumping, replace(WELL, clock_seed=seed))):
        assert nursery.live(paths, fault) == 0, paths.log.read_text()
    count.faults += 1
    assert decided(read_events(jumping.journal)) == decided(read_events(steady.journal))
    assert len(decided(read_events(steady.journal))) > 120
    count.survived += 1


def test_the_fault_of_a_jumping_clock_is_one(make_run: MakeRun, nursery: Nursery) -> None:
    """Or the test above would prove nothing."""
    paths = make_run()
    assert nursery.live(paths, Fault(clock_seed=3)) == 0
    started = next(e for e in read_events(paths.journal) if isinstance(e, SupervisorStarted))
    assert abs(started.unix_s - paths.folder.stat().st_mtime) > 3000
