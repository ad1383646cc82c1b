"""Whole runs on scripted engines in virtual time: what the runner promises, whatever the engines do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_engine import Outcome, Script, Tape, candidate_of, run_bench, state_of, table_of

from samullm_tui.domain.event import (
    Decided,
    EngineFailed,
    EngineReady,
    EngineStarting,
    EngineStopped,
    LateAnswerDropped,
    RequestRetried,
    StageStarted,
)
from samullm_tui.domain.plan import Candidate, Placement, Replica
from samullm_tui.supervisor.perform import MAX_STARTS, Runner
from samullm_tui.supervisor.running import RunningState

GPUS = 4
A0 = Placement("a", 1, 1, (0,))
B1 = Placement("b", 1, 1, (1,))


# --- any application, any plan, any faults ---


@st.composite
def applications(draw: st.DrawFn) -> tuple[str, list[tuple[str, Sequence[int]]], list[int]]:
    """LLMs, requests with their sources, and the chain that each belongs to (-1: none)."""
    llms = "abc"[: draw(st.integers(1, 3))]
    requests: list[tuple[str, Sequence[int]]] = []
    groups: list[int] = []
    for k in range(draw(st.integers(1, 14))):
        sources = draw(st.lists(st.integers(0, k - 1), max_size=2, unique=True)) if k else []
        requests.append((draw(st.sampled_from(llms)), sorted(sources)))
        groups.append(draw(st.integers(-1, 2)))
    return llms, requests, groups


@st.composite
def plans(draw: st.DrawFn, llms: str) -> Candidate:
    """Stages of disjoint placements; every LLM is in one of them at least. They need not fit the application."""
    members = st.lists(st.sampled_from(llms), min_size=1, unique=True)
    stages = [_stage(draw, draw(members)) for _ in range(draw(st.integers(1, 4)))]
    placed = {placement.llm for placements, _ in stages for placement in placements}
    stages += [_stage(draw, [llm]) for llm in llms if llm not in placed]
    return candidate_of(*stages)


def _stage(draw: st.DrawFn, members: Sequence[str]) -> tuple[list[Placement], list[str]]:
    gpus = draw(st.permutations(range(GPUS)))
    placements = []
    for k, llm in enumerate(members):
        left = len(gpus) - (len(members) - k - 1)
        tp = draw(st.sampled_from([1, 2])) if left >= 2 else 1
        dp = draw(st.integers(1, left // tp))
        mine, gpus = gpus[: tp * dp], gpus[tp * dp :]
        placements.append(Placement(llm, tp, dp, tuple(mine)))
    until = draw(st.lists(st.sampled_from(list(members)), min_size=1, unique=True))
    return placements, until


chances = st.sampled_from([0.0, 0.0, 0.1, 0.5])
scripts = st.builds(
    Script,
    seed=st.integers(0, 2**32),
    start_fails=st.sampled_from([0.0, 0.0, 0.3, 0.7]),
    attempt_fails=chances,
    refuses=chances,
    dies_within_s=st.sampled_from([float("inf"), 5.0, 60.0]),
    ignores_cancelling=st.sampled_from([0.0, 1.0]),
    hands_back=st.sampled_from([0.0, 0.5, 1.0]),
    max_in_flight=st.integers(1, 4),
)


def check_ends(outcome: Outcome) -> None:
    """Every request has exactly one row, nothing is left over, and the counts add up."""
    table = outcome.state.ledger.table
    rows = [(row.node, row.id) for row in (*outcome.tape.outputs, *outcome.tape.errors)]
    assert sorted(rows) == sorted((table.node_names[table.node[k]], table.ids[k]) for k in range(len(table)))
    assert not outcome.state.ledger.in_flight
    assert not outcome.world.holders
    assert sum(outcome.state.errors.values()) == len(outcome.tape.errors)
    assert len(outcome.texts) == 0


def check_order(outcome: Outcome) -> None:
    """No output was asked for before all its sources had theirs, and a failed source fails what needs it."""
    table = outcome.state.ledger.table
    place = {row.id: k for k, row in enumerate(outcome.tape.outputs)}
    for index in range(len(table)):
        for parent in table.parents_of(index).tolist():
            if str(index) in place:
                assert place[str(parent)] < place[str(index)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), script=scripts)
def test_every_request_ends_exactly_once_and_no_gpu_is_used_twice(
    data: st.DataObject, script: Script
) -> None:
    llms, requests, groups = data.draw(applications())
    state = state_of(table_of(llms, requests, groups), data.draw(plans(llms)))

    def one_engine_on_each_gpu(state: RunningState) -> None:
        held = Counter(gpu for engine in state.holding() for gpu in engine.replica.gpus)
        assert all(count == 1 for count in held.values())

    outcome = run_bench(state, script, check=one_engine_on_each_gpu)
    check_ends(outcome)
    check_order(outcome)
    assert outcome.end.status in {"succeeded", "failed"}
    assert outcome.world.most_in_flight <= script.max_in_flight
    times = [event.at_s for event in outcome.tape.events]
    assert times == sorted(times)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), script=scripts, after_s=st.floats(0, 40), wish=st.sampled_from(["drain", "stop"]))
def test_a_run_that_is_ended_leaves_nothing_behind(
    data: st.DataObject, script: Script, after_s: float, wish: str
) -> None:
    llms, requests, groups = data.draw(applications())
    state = state_of(table_of(llms, requests, groups), data.draw(plans(llms)))

    def then(runner: Runner, _: Tape) -> None:
        asyncio.get_running_loop().call_later(after_s, lambda: runner.wish(wish))  # type: ignore[arg-type]

    outcome = run_bench(state, script, then=then)
    assert not outcome.world.holders
    assert not state.ledger.in_flight
    rows = Counter((row.node, row.id) for row in (*outcome.tape.outputs, *outcome.tape.errors))
    assert all(count == 1 for count in rows.values())
    assert (len(rows) < len(state.ledger.table)) == (outcome.end.status == "stopped")


# --- one thing at a time ---


def fan_out(requests: int = 4) -> RunningState:
    """`b` takes each output of `a`; the first stage runs both."""
    table = table_of("ab", [*[("a", ())] * requests, *[("b", (k,)) for k in range(requests)]])
    return state_of(table, candidate_of(([A0, B1], "a"), ([B1], "b")))


def test_consumers_run_beside_their_producers_and_see_their_outputs() -> None:
    outcome = run_bench(fan_out(), Script())
    assert outcome.end.status == "succeeded"
    outputs = {row.id: row.output for row in outcome.tape.outputs}
    assert outputs["4"] == "out 4(out 0())"
    assert {row.prompt_tokens for row in outcome.tape.outputs if row.llm == "b"} == {10 + 3}
    stages = outcome.tape.of(StageStarted)
    assert [stage.index for stage in stages] == [0, 1]  # type: ignore[attr-defined]
    kept = [event for event in outcome.tape.of(EngineStarting) if event.replica.llm == "b"]  # type: ignore[attr-defined]
    assert len(kept) == 1


def test_every_change_of_the_stage_is_explained() -> None:
    outcome = run_bench(fan_out(), Script())
    kinds = [event.decision.kind for event in outcome.tape.of(Decided)]  # type: ignore[attr-defined]
    assert kinds == ["start", "switch", "finish"]


def test_an_attempt_is_retried_and_then_ends_in_an_error_with_all_that_needs_it() -> None:
    outcome = run_bench(fan_out(1), Script(attempt_fails=1.0))
    assert outcome.end.status == "failed"
    assert len(outcome.tape.of(RequestRetried)) == 3
    first, second = outcome.tape.errors
    assert first.error.startswith("no answer after 4 attempts:")
    assert second.error == "source node-a 0 failed"


def test_a_refused_request_is_not_retried_and_does_not_fail_the_run() -> None:
    outcome = run_bench(fan_out(1), Script(refuses=1.0))
    assert outcome.end.status == "succeeded"
    assert not outcome.tape.of(RequestRetried)
    assert [row.error for row in outcome.tape.errors] == [
        "refused: prompt too long",
        "source node-a 0 failed",
    ]


def test_an_engine_that_never_starts_is_given_up_and_the_others_go_on() -> None:
    table = table_of("ab", [("a", ()), ("b", ())])
    state = state_of(table, candidate_of(([A0, B1], "ab")))
    script = Script(start_fails=1.0)

    def then(runner: Runner, _: Tape) -> None:
        # Only `a` fails to start.
        make = runner._parts[0]

        def made(replica: Replica) -> object:
            engine = make(replica)
            if replica.llm == "b":
                engine.world = replace_script(engine.world, replace(script, start_fails=0.0))  # type: ignore[attr-defined]
            return engine

        runner._parts = (made, *runner._parts[1:])  # type: ignore[assignment]

    outcome = run_bench(state, script, then=then)
    assert outcome.end.status == "failed"
    assert outcome.end.cause == outcome.tape.errors[0].error == "engine gave up: a.0: out of memory"
    assert [row.llm for row in outcome.tape.outputs] == ["b"]
    failures = outcome.tape.of(EngineFailed)
    assert [event.gave_up for event in failures] == [False] * (MAX_STARTS - 1) + [True]  # type: ignore[attr-defined]


def replace_script(world: object, script: Script) -> object:
    changed = type(world)(script)  # type: ignore[call-arg]
    changed.holders = world.holders  # type: ignore[attr-defined]
    return changed


def test_restarts_wait_longer_each_time() -> None:
    outcome = run_bench(
        state_of(table_of("a", [("a", ())]), candidate_of(([A0], "a"))), Script(start_fails=1.0)
    )
    failed = [event.at_s for event in outcome.tape.of(EngineFailed)]
    started = [event.at_s for event in outcome.tape.of(EngineStarting)]
    waits = [start - fail for fail, start in zip(failed, started[1:], strict=False)]
    assert len(waits) == MAX_STARTS - 1
    assert 1.5 <= waits[0] <= 2.6 < 3.0 <= waits[1]


def test_an_engine_that_dies_is_restarted_and_what_it_had_runs_again() -> None:
    table = table_of("a", [("a", ())] * 30)
    outcome = run_bench(
        state_of(table, candidate_of(([A0], "a"))), Script(seed=3, dies_within_s=15.0, request_s=3.0)
    )
    assert outcome.end.status == "succeeded"
    assert len(outcome.tape.outputs) == 30
    assert len(outcome.tape.of(EngineFailed)) >= 2
    assert outcome.tape.of(RequestRetried)


def test_requests_of_a_stopped_replica_go_on_elsewhere() -> None:
    table = table_of("ab", [("a", ()), *[("b", ())] * 9])
    b0 = Placement("b", 1, 1, (0,))
    state = state_of(table, candidate_of(([A0, B1], "a"), ([b0], "b")))
    outcome = run_bench(state, Script(seed=1, request_s=8.0))
    assert outcome.end.status == "succeeded"
    assert len(outcome.tape.outputs) == 10
    moved = outcome.tape.of(RequestRetried)
    assert {event.cause for event in moved} == {"not part of stage 2"}  # type: ignore[attr-defined]


def test_a_request_goes_on_elsewhere_from_the_tokens_it_has_and_its_row_says_so() -> None:
    table = table_of("ab", [("a", ()), *[("b", ())] * 9])
    b0 = Placement("b", 1, 1, (0,))
    state = state_of(table, candidate_of(([A0, B1], "a"), ([b0], "b")))
    outcome = run_bench(state, Script(seed=1, request_s=8.0, hands_back=1.0))
    check_ends(outcome)
    moved = {event.id: event.kept_tokens for event in outcome.tape.of(RequestRetried)}  # type: ignore[attr-defined]
    assert moved
    assert set(moved.values()) == {1}
    assert outcome.world.gone_on == [(f"{id_}()", 1) for id_ in sorted(moved)], "in their order"
    assert {row.id for row in outcome.tape.outputs if row.continued == 1} == moved.keys()
    assert len(outcome.tape.outputs) == 10


def test_an_engine_that_does_not_answer_when_it_is_stopped_holds_nothing_up() -> None:
    table = table_of("ab", [("a", ()), *[("b", ())] * 9])
    b0 = Placement("b", 1, 1, (0,))
    state = state_of(table, candidate_of(([A0, B1], "a"), ([b0], "b")))
    outcome = run_bench(state, Script(seed=1, request_s=1000.0, ignores_cancelling=1.0))
    check_ends(outcome)
    assert outcome.end.status == "succeeded"


def test_a_late_answer_is_dropped_and_told() -> None:
    table = table_of("ab", [("a", ()), *[("b", ())] * 9])
    b0 = Placement("b", 1, 1, (0,))
    state = state_of(table, candidate_of(([A0, B1], "a"), ([b0], "b")))
    outcome = run_bench(state, Script(seed=1, request_s=8.0, ignores_cancelling=1.0))
    check_ends(outcome)
    dropped = outcome.tape.of(LateAnswerDropped)
    assert dropped
    assert {event.replica for event in dropped} == {"b.1"}  # type: ignore[attr-defined]


def test_a_new_replica_shares_what_the_first_one_has_queued() -> None:
    """`b` has everything on one engine when the second comes: what has not begun moves, so that both work."""
    table = table_of("ab", [("a", ()), *[("b", ())] * 40])
    both = Placement("b", 1, 2, (0, 1))
    state = state_of(table, candidate_of(([A0, B1], "a"), ([both], "b")))
    outcome = run_bench(state, Script(seed=2, max_in_flight=100, request_s=60.0))
    assert outcome.end.status == "succeeded"
    assert len([event for event in outcome.tape.of(EngineReady) if event.replica.llm == "b"]) == 2  # type: ignore[attr-defined]
    served = Counter(name for name, _ in outcome.world.served if name.startswith("b"))
    assert served["b.0"] >= 3
    assert not outcome.tape.of(RequestRetried)


def test_a_pause_holds_and_a_resume_goes_on() -> None:
    seen: list[int] = []

    def then(runner: Runner, tape: Tape) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(10.0, lambda: runner.wish("pause"))
        loop.call_later(500.0, lambda: seen.append(len(tape.outputs)))
        loop.call_later(1000.0, lambda: seen.append(len(tape.outputs)))
        loop.call_later(1000.0, lambda: runner.wish("run"))

    outcome = run_bench(fan_out(20), Script(), then=then)
    assert 0 < seen[0] == seen[1] < 40
    assert outcome.end.status == "succeeded"
    assert len(outcome.tape.of(EngineStopped)) == 2


@pytest.mark.parametrize("dies_first", [True, False])
def test_an_engine_that_dies_at_the_moment_it_is_stopped_is_still_stopped_to_its_end(
    dies_first: bool,
) -> None:
    def then(runner: Runner, _: Tape) -> None:
        def both() -> None:
            engine = runner._fleet.engine("a.0")
            for act in (engine._die, lambda: runner.wish("stop"))[:: 1 if dies_first else -1]:  # type: ignore[attr-defined]
                act()
            runner.wish("stop")

        asyncio.get_running_loop().call_later(20.0, both)

    outcome = run_bench(fan_out(40), Script(request_s=30.0), then=then)
    assert outcome.end.status == "stopped"
    assert not outcome.world.holders, "its GPUs were said to be free before it was gone"


def test_the_same_seed_gives_the_same_events() -> None:
    script = Script(seed=5, attempt_fails=0.2, dies_within_s=30.0)
    assert run_bench(fan_out(6), script).tape.events == run_bench(fan_out(6), script).tape.events


@pytest.mark.parametrize("requests", [0])
def test_an_application_without_requests_ends_at_once(requests: int) -> None:
    outcome = run_bench(fan_out(requests), Script())
    assert outcome.end.status == "succeeded"
    assert not outcome.tape.of(EngineStarting)
