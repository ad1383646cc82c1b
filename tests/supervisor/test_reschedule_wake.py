"""When the plan of a run is thought about again, from its state alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs
from scripted_engine import candidate_of, state_of, table_of

from samullm_tui.domain.plan import Band, Placement, PlannedStage, Replica
from samullm_tui.supervisor.ledger import Finish
from samullm_tui.supervisor.reschedule_wake import Review, Wake, deviates, next_s, standing_of, wake
from samullm_tui.supervisor.running import EngineState, RunningState

A0, B1 = Replica("a", (0,)), Replica("b", (1,))
LOAD_S = 30.0


def running() -> RunningState:
    """In its first stage of two, both engines serving; it is to end after 400 s."""
    stages = (
        ([Placement("a", 1, 1, (0,)), Placement("b", 1, 1, (1,))], "a"),
        ([Placement("b", 1, 1, (1,))], "b"),
    )
    state = state_of(table_of("ab", [("a", ()), ("b", ())]), candidate_of(*stages))
    state.stage = 0
    for replica in (A0, B1):
        state.engines[replica.name] = EngineState(replica, "serving", starts=1)
        state.ledger.lanes.open(replica.name, replica.llm)
        state.ledger.lanes.serve(replica.name, 4)
    return state


def reviewed(state: RunningState) -> Review:
    """Nothing was decided yet; quiet until 10 s."""
    return Review({("a", 1): LOAD_S, ("b", 1): LOAD_S}, 10.0, 400.0, standing_of(state), 0.0)


def finish(state: RunningState, request: int, replica: Replica) -> None:
    state.ledger.send(request, replica.name, 0.0)
    state.ledger.finish(request, Finish(5))


def test_nothing_new_wakes_nobody_but_for_a_look_now_and_then() -> None:
    state = running()
    review = reviewed(state)
    assert wake(state, review, 30.0) is None
    assert wake(state, review, 41.0) == Wake("", "look")
    assert next_s(review, 12.0) == pytest.approx(38.8)
    assert wake(state, replace(review, expected_s=40.0), 41.0) is None, "too little is left to load anything"
    assert wake(state, replace(review, expected_s=40.0), 60.0) == Wake("", "look"), "it should have ended"


def test_an_llm_that_finished_is_told_with_when_it_should_have() -> None:
    state = running()
    review = reviewed(state)
    finish(state, 0, A0)
    assert wake(state, review, 5.0) is None, "not in the first seconds"
    assert wake(state, review, 50.0) == Wake("a finished", "decide")
    planned = PlannedStage(0.0, 48.0, state.present, (False, False))
    state.candidate = structs.replace(state.candidate, stages=(planned,))
    assert wake(state, review, 50.0) == Wake("a finished, by the plan at 48s", "decide")
    assert wake(state, replace(review, quiet_until_s=60.0), 50.0) is None, "not right after a decision"
    assert wake(state, review, 375.0) is None, "not when a load takes longer than the rest"
    assert wake(state, replace(review, standing=standing_of(state)), 30.0) is None, "not twice"


def test_what_is_lost_is_not_made_to_wait() -> None:
    state = running()
    review = reviewed(state)
    state.quarantined[0] = "30 GiB are in use"
    assert wake(state, review, 1.0) == Wake("GPU 0 quarantined: 30 GiB are in use", "decide")
    state.engines[B1.name].status = "gave up"
    state.engines[B1.name].cause = "out of memory"
    woken = wake(state, review, 399.0)
    assert woken is not None
    assert woken.reason.endswith("; b.1 given up: out of memory")
    assert wake(state, replace(review, standing=standing_of(state)), 1.0) is None


def test_an_engine_that_loads_for_too_long_is_noticed_once() -> None:
    state = running()
    review = reviewed(state)
    state.engines[B1.name].status, state.engines[B1.name].started_s = "loading", 20.0
    assert wake(state, review, 36.0) is None
    assert wake(state, review, 66.0) == Wake("b.1 still loads after 46s, 30s were expected", "decide")
    review.late.add((B1.name, 20.0))
    assert wake(state, replace(review, looked_s=66.0), 67.0) is None


def test_a_wish_is_heard_at_once_but_nothing_disturbs_what_is_under_way() -> None:
    state = running()
    review = reviewed(state)
    review.wished_by = "console"
    assert wake(state, review, 1.0) == Wake("console asked", "decide")
    assert wake(state, replace(review, busy=True), 1.0) is None
    for wish in ("pause", "drain", "stop"):
        state.wish = wish  # type: ignore[assignment]
        assert wake(state, review, 1.0) is None


@pytest.mark.parametrize(
    ("after", "new"),
    [
        (Band(404, 404, 404, 404), False),  # 4 s
        (Band(408, 408, 408, 408), False),  # less than 3 % of the 300 s left
        (Band(410, 410, 410, 410), True),
        (Band(410, 404, 410, 416), False),  # its own draws differ by more
        (Band(380, 375, 380, 390), True),
    ],
)
def test_a_forecast_is_new_beyond_its_own_noise(after: Band, new: bool) -> None:
    assert deviates(400.0, after, 100.0) == new
