"""Promises 1 to 7: whatever stops a supervisor, at whatever moment, nothing is lost and nothing is done twice."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from crash_runs import RECORDS, Count, Nursery, Tally, check_run, committed_rows, ends_of
from faults import Call, Fault
from msgspec.structs import replace

from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.export import batch_rows
from samullm_tui.supervisor.history import read_history
from samullm_tui.supervisor.spec import RunPaths

MakeRun = Callable[..., RunPaths]
Expected = dict[str, Counter[Any]]
WELL = Fault(refuse_every=7, segment_bytes=8000)
"""Nothing goes wrong but for some requests that are refused, so that there are error rows as well.

The segments of the journal are so small that every run has several of them.
"""
MOMENTS: list[tuple[Call, str]] = [
    ("fdatasync", "before"),
    ("fdatasync", "after"),
    ("write", "before"),
    ("write", "half"),
    ("pwrite", "before"),
    ("pwrite", "half"),
    ("ftruncate", "after"),
    ("fsync", "before"),
    ("rename", "before"),
    ("rename", "after"),
]
ALL = 400
"""More calls of any kind than a run makes."""


UNINTERRUPTED: dict[int, Expected] = {}
"""By the number of records: simulated runs are deterministic."""

LIFE_S: dict[int, float] = {}
"""How long they took: kills are drawn over as much, on however slow a machine."""


def ends_without_faults(make_run: MakeRun, nursery: Nursery, records: int = RECORDS) -> Expected:
    if records not in UNINTERRUPTED:
        UNINTERRUPTED[records] = _ends_without_faults(make_run(records), nursery, records)
    return UNINTERRUPTED[records]


def _ends_without_faults(paths: RunPaths, nursery: Nursery, records: int) -> Expected:
    began_s = time.monotonic()
    assert nursery.live(paths, WELL) == 0, paths.log.read_text()
    LIFE_S[records] = time.monotonic() - began_s
    ends = ends_of(paths, list(read_events(paths.journal)))
    assert len(ends["ended"]) == 2 * records
    assert ends["outputs"]
    assert ends["errors"]
    batch = [line for node in ("answer", "judge") for line in batch_rows(paths.run, node)]
    told = Counter("error" if line["error"] else "output" for line in batch)
    assert told == {"output": ends["outputs"].total(), "error": ends["errors"].total()}
    assert len(list(paths.folder.glob("journal.*.zst"))) > 2, "its journal has several segments"
    return ends


def survive(
    paths: RunPaths, nursery: Nursery, faults: Iterable[Fault], count: Count, expected: Expected
) -> int:
    """Lives through the faults one after another, and one life without any. Returns how many lives they ended.

    What was committed once stays as it was, and in the end there is all that an uninterrupted run gives, once.
    """
    kept: list[dict[str, Any]] = []
    killed = 0
    for fault in (*faults, WELL):
        status = nursery.live(paths, fault)
        assert status in {0, -signal.SIGKILL}, paths.log.read_text()
        killed += status < 0
        rows = committed_rows(paths)
        assert rows[: len(kept)] == kept, "a committed output is not what it was"
        kept = rows
        if read_history(paths).is_over:
            break
    count.faults += killed
    check_run(paths, expected, count)
    count.survived += killed
    return killed


def kill_at(call: Call, when: Any, nth: int, *, power_cut: bool = False) -> Fault:
    return replace(WELL, kill_at=(call, nth, when), power_cut_seed=nth if power_cut else None)


def kill_at_each(
    numbers: Sequence[int], make_run: MakeRun, nursery: Nursery, count: Count, call: Call, when: str
) -> None:
    """A run for each number, killed at that call of its first life, and again in its second."""
    expected = ends_without_faults(make_run, nursery)
    for nth in numbers:
        faults = [kill_at(call, when, nth), kill_at(call, when, 1 + nth // 2)]
        if not survive(make_run(), nursery, faults, count, expected):
            return


@pytest.mark.parametrize(("call", "when"), MOMENTS)
def test_a_kill_at_a_system_call_loses_and_repeats_nothing_committed(
    make_run: MakeRun, nursery: Nursery, tally: Tally, call: Call, when: str
) -> None:
    kill_at_each([2, 11], make_run, nursery, tally.of(f"SIGKILL {when} {call}"), call, when)


@pytest.mark.torture
@pytest.mark.parametrize(("call", "when"), MOMENTS)
def test_a_kill_at_every_system_call_loses_and_repeats_nothing_committed(
    make_run: MakeRun, nursery: Nursery, tally: Tally, call: Call, when: str
) -> None:
    kill_at_each(range(1, ALL), make_run, nursery, tally.of(f"SIGKILL {when} {call}"), call, when)


def cut_power(lives: int, seed: int, make_run: MakeRun, nursery: Nursery, count: Count) -> None:
    expected = ends_without_faults(make_run, nursery)
    rng = np.random.default_rng(seed)
    killed = 0
    while killed < lives:
        numbers = rng.integers(1, 40, 5).tolist()
        faults = [kill_at("fdatasync", "before", nth, power_cut=True) for nth in numbers]
        killed += survive(make_run(), nursery, faults, count, expected)


def test_a_power_cut_loses_no_more_than_what_was_not_acknowledged(
    make_run: MakeRun, nursery: Nursery, tally: Tally
) -> None:
    cut_power(6, 1, make_run, nursery, tally.of("power cut"))


@pytest.mark.torture
def test_hundreds_of_power_cuts_lose_no_more_than_what_was_not_acknowledged(
    make_run: MakeRun, nursery: Nursery, tally: Tally
) -> None:
    cut_power(200, 2, make_run, nursery, tally.of("power cut"))


def kill_at_random(
    lives: int,
    seed: int,
    make_run: MakeRun,
    nursery: Nursery,
    count: Count,
    *,
    records: int = RECORDS,
    share: float = 1.0,
) -> None:
    """One run is killed again and again, after times as drawn, until it is over; then the next.

    `share`: the longest of these times, as a share of an uninterrupted life.
    """
    expected = ends_without_faults(make_run, nursery, records)
    rng = np.random.default_rng(seed)
    killed = 0
    while killed < lives:
        times_s = rng.uniform(0.0, share * LIFE_S[records], lives - killed).tolist()
        faults = [replace(WELL, kill_after_s=after_s) for after_s in times_s]
        killed += survive(make_run(records), nursery, faults, count, expected)


def test_kills_at_random_moments_lose_and_repeat_nothing_committed(
    make_run: MakeRun, nursery: Nursery, tally: Tally
) -> None:
    kill_at_random(8, 1, make_run, nursery, tally.of("SIGKILL at random"))


@pytest.mark.torture
def test_two_hundred_kills_at_random_moments_lose_and_repeat_nothing_committed(
    make_run: MakeRun, nursery: Nursery, tally: Tally
) -> None:
    kill_at_random(200, 2, make_run, nursery, tally.of("SIGKILL at random"))


@pytest.mark.torture
def test_a_long_run_survives_fifty_kills(make_run: MakeRun, nursery: Nursery, tally: Tally) -> None:
    count = tally.of("SIGKILL in 6,000 requests")
    kill_at_random(50, 3, make_run, nursery, count, records=3000, share=0.3)
