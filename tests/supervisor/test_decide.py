"""Decisions of the supervisor, from its state alone."""

from __future__ import annotations

import copy

import pytest
from scripted_engine import candidate_of, state_of, table_of

from samullm_tui.domain.plan import Placement, Replica
from samullm_tui.supervisor.actions import (
    Action,
    Deal,
    End,
    EnterStage,
    GiveUp,
    MoveBack,
    Note,
    Send,
    StartEngine,
    StopEngine,
)
from samullm_tui.supervisor.decide import decide
from samullm_tui.supervisor.ledger import Finish
from samullm_tui.supervisor.running import EngineState, RunningState

A0 = Replica("a", (0,))
B1 = Replica("b", (1,))
B0 = Replica("b", (0,))


def place(replica: Replica, *more: Replica) -> Placement:
    gpus = tuple(gpu for one in (replica, *more) for gpu in one.gpus)
    return Placement(replica.llm, replica.tp, 1 + len(more), gpus)


def two_stages(requests_of_b: int = 2) -> RunningState:
    """`a` on GPU 0 and `b` on GPU 1 until `a` is finished; then `b` on both."""
    table = table_of("ab", [("a", ()), ("a", ()), *[("b", ())] * requests_of_b])
    stages = (([place(A0), place(B1)], "a"), ([place(B0, B1)], "b"))
    return state_of(table, candidate_of(*stages))


def serve(state: RunningState, *replicas: Replica, capacity: int = 10) -> None:
    for replica in replicas:
        state.engines[replica.name] = EngineState(replica, "serving", starts=1)
        state.ledger.lanes.open(replica.name, replica.llm)
        state.ledger.lanes.serve(replica.name, capacity)


def only(actions: list[Action], *kinds: type) -> list[Action]:
    return [action for action in actions if isinstance(action, kinds)]


def send_and_finish(state: RunningState, *requests: int, to: Replica) -> None:
    for request in requests:
        state.ledger.send(request, to.name, 0.0)
        state.ledger.finish(request, Finish(1))


def test_a_run_begins_with_its_first_stage_and_says_why() -> None:
    actions = decide(two_stages(), 0.0)
    assert [type(action) for action in actions] == [Note, EnterStage]
    note = actions[0]
    assert isinstance(note, Note)
    assert note.decision.kind == "start"
    assert note.decision.what == "stage 1 of 2: a tp1 ×1, b tp1 ×1"
    assert "simulated makespan 1m 40s" in note.decision.saw


def test_deciding_changes_nothing() -> None:
    state = two_stages()
    state.stage = 0
    serve(state, A0, B1)
    before = copy.deepcopy((state.ledger.lanes.queues, state.ledger.in_flight, state.engines, state.stage))
    first = decide(state, 1.0)
    assert (state.ledger.lanes.queues, state.ledger.in_flight, state.engines, state.stage) == before
    assert decide(state, 1.0) == first


def test_engines_of_the_stage_start_on_free_gpus_only() -> None:
    state = two_stages()
    state.stage = 1
    state.engines[A0.name] = EngineState(A0, "stopping")
    assert only(decide(state, 0.0), StartEngine) == [StartEngine(B1)]
    del state.engines[A0.name]
    assert only(decide(state, 0.0), StartEngine) == [StartEngine(B0), StartEngine(B1)]


def test_a_stage_ends_when_its_llms_are_finished_and_kept_replicas_go_on() -> None:
    state = two_stages()
    state.stage = 0
    serve(state, A0, B1)
    send_and_finish(state, 0, to=A0)
    assert not only(decide(state, 50.0), EnterStage)
    send_and_finish(state, 1, to=A0)
    actions = decide(state, 50.0)
    assert only(actions, StopEngine) == [StopEngine(A0, "not part of stage 2")]
    assert only(actions, EnterStage) == [EnterStage(1)]
    (note,) = only(actions, Note)
    assert isinstance(note, Note)
    assert note.decision.kind == "switch"
    assert note.decision.saw == "a finished after 50s; b has 2 requests left"


def test_a_stage_waits_for_an_llm_that_no_later_stage_serves() -> None:
    table = table_of("ab", [("a", ()), ("b", ())])
    state = state_of(table, candidate_of(([place(A0), place(B1)], "a"), ([place(A0)], "a")))
    state.stage = 0
    serve(state, A0, B1)
    send_and_finish(state, 0, to=A0)
    assert not only(decide(state, 1.0), EnterStage)


def test_stages_without_work_are_passed_over_and_keep_what_goes_on() -> None:
    table = table_of("ab", [("a", ()), ("b", ())])
    stages = (([place(A0)], "a"), ([place(B1)], "a"), ([place(B0)], "b"))
    state = state_of(table, candidate_of(*stages))
    state.stage = 0
    serve(state, A0)
    send_and_finish(state, 0, to=A0)
    assert only(decide(state, 1.0), EnterStage) == [EnterStage(2)]


def test_engines_of_a_finished_llm_stop_within_the_stage() -> None:
    state = two_stages(requests_of_b=1)
    state.stage = 0
    serve(state, A0, B1)
    send_and_finish(state, 2, to=B1)
    actions = decide(state, 9.0)
    assert only(actions, StopEngine) == [StopEngine(B1, "b is finished")]
    (note,) = only(actions, Note)
    assert isinstance(note, Note)
    assert note.decision.what == "b: its engine stops"


def test_a_pause_sends_nothing_and_keeps_engines() -> None:
    state = two_stages()
    state.stage = 0
    serve(state, A0, B1)
    assert len(only(decide(state, 0.0), Send)) == 4
    state.wish = "pause"
    assert decide(state, 0.0) == []


def test_while_nothing_can_be_recorded_nothing_is_sent() -> None:
    state = two_stages()
    state.stage = 0
    serve(state, A0, B1)
    state.trouble = "no space left on device"
    assert decide(state, 0.0) == []


def test_draining_waits_for_what_is_in_flight() -> None:
    state = two_stages()
    state.stage = 0
    serve(state, A0, B1)
    state.ledger.send(0, A0.name, 0.0)
    state.wish = "drain"
    assert decide(state, 0.0) == [StopEngine(B1, "the run is drained")]


def test_stopping_stops_everything_and_then_ends() -> None:
    state = two_stages()
    state.stage = 0
    serve(state, A0, B1)
    state.ledger.send(0, A0.name, 0.0)
    state.wish = "stop"
    assert [type(action) for action in decide(state, 0.0)] == [StopEngine, StopEngine]
    state.engines.clear()
    assert decide(state, 0.0) == [End("stopped", "")]


@pytest.mark.parametrize(("broken", "status"), [("", "succeeded"), ("engine gave up: x", "failed")])
def test_a_run_ends_when_all_requests_ended(broken: str, status: str) -> None:
    state = state_of(table_of("a", [("a", ())]), candidate_of(([place(A0)], "a")))
    state.stage, state.broken = 0, broken
    serve(state, A0)
    send_and_finish(state, 0, to=A0)
    assert decide(state, 1.0) == [StopEngine(A0, "all requests ended")]
    state.engines.clear()
    assert decide(state, 1.0)[-1] == End(status, broken)  # type: ignore[arg-type]


def test_a_failed_engine_starts_again_after_its_time() -> None:
    state = two_stages()
    state.stage = 0
    state.engines[A0.name] = EngineState(A0, "waiting", starts=1, retry_at_s=10.0)
    serve(state, B1)
    assert not only(decide(state, 9.9), StartEngine)
    assert only(decide(state, 10.0), StartEngine) == [StartEngine(A0)]


def test_an_llm_is_given_up_when_all_its_engines_are() -> None:
    state = state_of(table_of("b", [("b", ())] * 4), candidate_of(([place(B0, B1)], "b")))
    state.stage = 0
    serve(state, B1)
    state.engines[B0.name] = EngineState(B0, "gave up", cause="out of memory")
    assert not only(decide(state, 0.0), GiveUp, StartEngine)
    state.ledger.lanes.close(B1.name)
    state.engines[B1.name] = EngineState(B1, "gave up", cause="no such file")
    assert decide(state, 0.0) == [GiveUp("b", "no such file")]


def test_requests_go_where_the_fewest_tokens_are_outstanding() -> None:
    state = two_stages(requests_of_b=4)
    state.stage = 1
    serve(state, B0, B1)
    state.ledger.send(2, B0.name, 0.0)
    sends = [a for a in decide(state, 0.0) if isinstance(a, Send)]
    assert [send.replica for send in sends] == [B1.name, B0.name, B1.name]


def test_no_replica_gets_more_than_it_can_work_on() -> None:
    state = two_stages(requests_of_b=9)
    state.stage = 1
    serve(state, B0, B1, capacity=2)
    assert len(only(decide(state, 0.0), Send)) == 4


def test_a_replica_takes_only_half_while_another_still_loads() -> None:
    state = two_stages(requests_of_b=9)
    state.stage = 1
    serve(state, B1)
    state.engines[B0.name] = EngineState(B0, "loading", starts=1)
    state.ledger.lanes.open(B0.name, "b")
    actions = decide(state, 0.0)
    assert len(only(actions, Send)) == 4
    assert {deal.replica for deal in actions if isinstance(deal, Deal)} == {B0.name}
    assert len(only(actions, Deal)) == 5


def test_a_replica_that_has_done_its_share_takes_over_what_was_dealt_to_one_that_still_loads() -> None:
    state = two_stages(requests_of_b=9)
    state.stage = 1
    serve(state, B1)
    state.engines[B0.name] = EngineState(B0, "loading", starts=1)
    state.ledger.lanes.open(B0.name, "b")
    actions = decide(state, 0.0)
    for action in actions:
        if isinstance(action, Deal):
            state.ledger.lanes.deal(action.request, action.replica)
        elif isinstance(action, Send):
            state.ledger.send(action.request, action.replica, 0.0)
    assert not only(decide(state, 0.0), Send)
    for action in only(actions, Send):
        state.ledger.finish(action.request, Finish(1))  # type: ignore[union-attr]
    assert [action.replica for action in decide(state, 0.0) if isinstance(action, Send)] == [B1.name] * 2


def test_what_was_dealt_to_a_replica_goes_to_it_first_when_it_is_ready() -> None:
    state = two_stages(requests_of_b=4)
    state.stage = 1
    state.engines[B0.name] = EngineState(B0, "loading", starts=1)
    state.ledger.lanes.open(B0.name, "b")
    state.ledger.lanes.deal(4, B0.name)
    state.engines[B0.name].status = "serving"
    state.ledger.lanes.serve(B0.name, 2)
    sent = [action.request for action in decide(state, 0.0) if isinstance(action, Send)]
    assert sent == [4, 2]


def test_a_new_replica_gets_what_waits_in_the_queues_of_others() -> None:
    state = two_stages(requests_of_b=6)
    state.stage = 1
    serve(state, B1)
    for request in range(2, 8):
        state.ledger.send(request, B1.name, 0.0)
    serve(state, B0)
    state.engines[B0.name].fresh = True
    state.engines[B1.name].queued = 2
    assert only(decide(state, 0.0), MoveBack, Send) == [MoveBack(B0.name, (7, 6))]


def test_a_replica_whose_last_attempt_failed_gets_nothing_for_a_while() -> None:
    state = two_stages()
    state.stage = 1
    serve(state, B0, B1)
    state.engines[B0.name].hold_until_s = 5.0
    sends = [a for a in decide(state, 1.0) if isinstance(a, Send)]
    assert {send.replica for send in sends} == {B1.name}


def test_the_steps_of_a_chain_stay_on_their_replica() -> None:
    requests = [("b", ()), ("b", ()), ("b", (0,)), ("b", (1,))]
    state = state_of(table_of("b", requests, group=[0, 1, 0, 1]), candidate_of(([place(B0, B1)], "b")))
    state.stage = 0
    serve(state, B0, B1)
    for action in decide(state, 0.0):
        assert isinstance(action, Send)
        state.ledger.send(action.request, action.replica, 0.0)
    homes = {request: sent.replica for request, sent in state.ledger.in_flight.items()}
    for request in (1, 0):
        state.ledger.finish(request, Finish(100))
    assert decide(state, 0.0) == [Send(2, homes[0]), Send(3, homes[1])]


def test_the_run_goes_on_when_a_stage_would_wait_for_ever() -> None:
    """`b` of the second stage needs an output of `a`, which only the third stage serves again."""
    table = table_of("ab", [("a", ()), ("b", (0,))])
    stages = (([place(A0)], "a"), ([place(B0)], "b"), ([place(A0)], "a"))
    state = state_of(table, candidate_of(*stages))
    state.stage = 1
    serve(state, B0)
    actions = decide(state, 0.0)
    assert only(actions, EnterStage) == [EnterStage(2)]
    assert only(actions, StopEngine) == [StopEngine(B0, "not part of stage 3")]


def test_in_the_last_stage_who_can_work_gets_the_gpus_of_who_cannot() -> None:
    table = table_of("ab", [("a", ()), ("b", (0,))])
    state = state_of(table, candidate_of(([place(A0)], "a"), ([place(B0)], "b")))
    state.stage = 1
    serve(state, B0)
    assert only(decide(state, 0.0), StopEngine) == [StopEngine(B0, "a can go on and needs its GPUs")]
    state.ledger.lanes.close(B0.name)
    state.engines.clear()
    assert only(decide(state, 0.0), StartEngine) == [StartEngine(A0)]


def test_an_engine_that_is_being_stopped_gets_nothing_more() -> None:
    state = two_stages(requests_of_b=4)
    state.stage = 0
    serve(state, A0, B1, capacity=1)
    first = only(decide(state, 1.0), Send)
    assert Send(2, "b.1") in first
    state.ledger.send(2, "b.1", 1.0)
    state.engines["b.1"].status = "stopping"
    state.ledger.lanes.retire("b.1")
    state.ledger.lanes.land(2, "b.1")
    assert not [a for a in only(decide(state, 1.0), Send, Deal) if a.replica == "b.1"]  # type: ignore[union-attr]
    state.ledger.lanes.close("b.1")
