"""Requests and lanes: order, homes, weights, and what is left after a crash."""

from __future__ import annotations

import numpy as np
import pytest
from scripted_engine import table_of

from samullm_tui.supervisor.lanes import Load
from samullm_tui.supervisor.ledger import DONE, FAILED, READY, WAITING, Finish, Ledger
from samullm_tui.supervisor.sampling import period_s
from samullm_tui.supervisor.words import in_time


def ledger_of(
    requests: list[tuple[str, tuple[int, ...]]], group: list[int] | None = None, **done: object
) -> Ledger:
    table = table_of("ab", requests, group or ())
    return Ledger(
        table, np.full(len(table), 5, dtype=np.int64), done.get("done", {}).items(), done.get("failed", [])
    )  # type: ignore[arg-type]


FAN_IN = [("a", ()), ("a", ()), ("b", (0, 1)), ("b", (2,))]


def test_a_consumer_is_ready_when_all_its_sources_are_finished() -> None:
    ledger = ledger_of(FAN_IN)
    ledger.lanes.open("a.0", "a")
    ledger.lanes.serve("a.0", 5)
    for request, status in ((0, WAITING), (1, READY)):
        ledger.send(request, "a.0", 0.0)
        ledger.finish(request, Finish(7))
        assert ledger.status[2] == status
    assert ledger.prompt_tokens(2) == 10 + 7 + 7
    assert ledger.unfinished == {"a": 0, "b": 2}


def test_what_was_done_before_is_not_done_again() -> None:
    ledger = ledger_of(FAN_IN, done={0: Finish(7), 1: Finish(8)})
    assert list(ledger.status) == [DONE, DONE, READY, WAITING]
    assert list(ledger.lanes.queues["b"]) == [2]
    assert ledger.prompt_tokens(2) == 10 + 7 + 8
    assert ledger.orphans() == []


def test_what_a_crash_left_open_behind_a_failed_source_fails() -> None:
    ledger = ledger_of(FAN_IN, done={0: Finish(7)}, failed=[1])
    assert ledger.orphans() == [(2, 1), (3, 2)]
    assert list(ledger.status) == [DONE, FAILED, FAILED, FAILED]
    assert ledger.open_requests == 0


def test_a_request_that_is_taken_back_stands_first_and_its_old_answer_does_not_count() -> None:
    ledger = ledger_of([("a", ())] * 3)
    ledger.lanes.open("a.0", "a")
    ledger.lanes.serve("a.0", 5)
    first = ledger.send(1, "a.0", 0.0)
    assert ledger.take_back(1, failure=True) == 1
    assert list(ledger.lanes.queues["a"]) == [1, 0, 2]
    second = ledger.send(1, "a.0", 1.0)
    assert not ledger.is_current(1, first.serial)
    assert ledger.is_current(1, second.serial)
    assert ledger.take_back(1, failure=False) == 1


def test_the_longest_chain_is_dealt_first() -> None:
    chains = [("a", ()), ("a", ()), ("a", (0,)), ("a", (1,)), ("a", (3,)), ("a", ())]
    ledger = ledger_of(chains, [0, 1, 0, 1, 1, -1])
    assert list(ledger.lanes.queues["a"]) == [1, 0, 5]


def test_a_replica_is_charged_with_all_that_is_left_of_a_chain() -> None:
    ledger = ledger_of([("a", ()), ("a", (0,)), ("a", (1,))], [0, 0, 0])
    for name in ("a.0", "a.1"):
        ledger.lanes.open(name, "a")
        ledger.lanes.serve(name, 5)
    ledger.send(0, "a.0", 0.0)
    lanes = ledger.lanes.of
    assert ledger.lanes.load("a.0") == Load(prompts=10 + 15 + 15, outputs=15, longest=15)
    ledger.finish(0, Finish(5))
    assert ledger.lanes.load("a.0") == Load(prompts=15 + 15, outputs=10, longest=10)
    assert list(lanes["a.0"].kept) == [1]
    # It moves as a whole.
    ledger.send(1, "a.1", 0.0)
    assert ledger.lanes.load("a.0") == Load()
    assert ledger.lanes.load("a.1") == Load(prompts=15 + 15, outputs=10, longest=10)
    ledger.finish(1, Finish(5))
    assert list(lanes["a.1"].kept) == [2]
    ledger.lanes.close("a.1")
    assert list(ledger.lanes.queues["a"]) == [2]


def test_closing_a_replica_gives_back_what_was_kept_for_it_in_order() -> None:
    ledger = ledger_of([("a", ())] * 5)
    ledger.lanes.open("a.0", "a")
    for request in (0, 1, 2):
        ledger.lanes.deal(request, "a.0")
    ledger.lanes.serve("a.0", 2)
    assert list(ledger.lanes.queues["a"]) == [2, 3, 4]
    ledger.lanes.close("a.0")
    assert list(ledger.lanes.queues["a"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (412, "6m 52s"), (3600 * 41 + 8 * 60, "41h 08m")],
)
def test_times_are_said_as_on_the_screens(seconds: float, text: str) -> None:
    assert in_time(seconds) == text


@pytest.mark.parametrize(("hours", "most"), [(0.05, 200), (1, 1100), (30, 2100)])
def test_the_samples_of_a_simulated_run_stay_few(hours: float, most: int) -> None:
    at_s, samples = 0.0, 0
    while at_s < hours * 3600:
        at_s += period_s(at_s, simulated=True)
        samples += 1
    assert samples <= most
    assert period_s(1e6, simulated=False) == 1.0
