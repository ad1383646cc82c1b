"""A plan that is thought about and replaced while the run goes on, whatever the engines and the thinking do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_engine import Outcome, Script, Tape, candidate_of, run_bench, state_of, table_of
from scripted_thinker import Thinking, drawn_stages, with_thinking
from test_running import applications, check_ends, check_order, plans, scripts

from samullm_tui.domain.event import (
    Decided,
    Decision,
    EngineStarting,
    EngineStopped,
    GpuQuarantined,
    ProposalAnswered,
    Proposed,
    Replanned,
    RequestFinished,
    StageStarted,
)
from samullm_tui.domain.event import Outcome as Came
from samullm_tui.domain.plan import Placement, Stage
from samullm_tui.planner.reschedule import Situation
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.running import RunningState

A0, B1 = Placement("a", 1, 1, (0,)), Placement("b", 1, 1, (1,))
B01 = Placement("b", 1, 2, (0, 1))
A_LONG = 12
ONLY_B01 = (Stage((B01,), ("b",)),)


def long_run(requests_of_a: int = 4, requests_of_b: int = A_LONG * 2) -> RunningState:
    """`a` on GPU 0 beside `b` on GPU 1 for ever: `a` is finished long before `b`."""
    table = table_of("ab", [*[("a", ())] * requests_of_a, *[("b", ())] * requests_of_b])
    return state_of(table, candidate_of(([A0, B1], "ab")))


SLOW = Script(seed=4, request_s=10.0, max_in_flight=2)


def decisions(outcome: Outcome) -> list[Decision]:
    """Those of the rescheduler."""
    return [e.decision for e in outcome.tape.of(Decided) if e.decision.number]  # type: ignore[attr-defined]


def once(stages: tuple[Stage, ...]) -> Callable[[Situation], tuple[Stage, ...] | None]:
    """Wants these stages as long as they are not the plan."""
    return lambda situation: None if situation.stages == stages else stages


# --- any application, any faults, any thoughts ---


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    script=scripts,
    seed=st.integers(0, 2**32),
    mode=st.sampled_from(["auto", "auto", "ask"]),
    lost_s=st.floats(0, 60),
    takes_s=st.sampled_from([0.0, 0.0, 4.0, 25.0]),
)
def test_every_request_ends_exactly_once_however_the_plan_is_changed(
    data: st.DataObject, script: Script, seed: int, mode: str, lost_s: float, takes_s: float
) -> None:
    llms, requests, groups = data.draw(applications())
    state = state_of(table_of(llms, requests, groups), data.draw(plans(llms)))
    rng = np.random.default_rng(seed)
    thinking = Thinking(
        lambda _: drawn_stages(rng, llms) if rng.random() < 0.7 else None, takes_s, fails=int(rng.integers(2))
    )
    seen: list[Rescheduler] = []

    def then(runner: Runner, tape: Tape) -> None:
        loop = asyncio.get_running_loop()
        seen.append(runner.rescheduler)  # type: ignore[arg-type]
        loop.call_later(lost_s, lambda: runner.gpu_taken(int(rng.integers(4)), "in use"))
        for at_s in rng.uniform(0, 80, 4):
            loop.call_later(at_s, answer, tape)
            loop.call_later(at_s, lambda: state.ledger.open_requests and seen[0].ask_for_decision("me"))

    def answer(tape: Tape) -> None:
        for event in tape.of(Proposed)[-1:]:
            seen[0].answer(event.number, "me", accept=bool(rng.random() < 0.7))  # type: ignore[attr-defined]

    outcome = run_bench(
        state,
        script,
        then=then,
        check=one_engine_on_each_gpu,
        rescheduler=with_thinking(thinking, mode),  # type: ignore[arg-type]
    )
    check_ends(outcome)
    check_order(outcome)
    assert outcome.end.status in {"succeeded", "failed"}
    check_numbers(outcome)
    check_unusable(outcome)


def one_engine_on_each_gpu(state: RunningState) -> None:
    held = [gpu for engine in state.holding() for gpu in engine.replica.gpus]
    assert len(held) == len(set(held))


def check_numbers(outcome: Outcome) -> None:
    """Each decision has one number and one end; each new plan, proposal and answer has a decision."""
    numbers = [decision.number for decision in decisions(outcome)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    proposed = [event.number for event in outcome.tape.of(Proposed)]  # type: ignore[attr-defined]
    assert [event.number for event in outcome.tape.of(ProposalAnswered)] == proposed  # type: ignore[attr-defined]
    switches = {d.number for d in decisions(outcome) if d.kind == "switch"}
    replanned = [event.number for event in outcome.tape.of(Replanned)]  # type: ignore[attr-defined]
    assert set(replanned) == switches
    assert len(replanned) == len(switches)


def check_unusable(outcome: Outcome) -> None:
    """No engine starts on a GPU that is lost."""
    lost: set[int] = set()
    for event in outcome.tape.events:
        if isinstance(event, GpuQuarantined):
            lost.add(event.gpu)
        elif isinstance(event, EngineStarting):
            assert lost.isdisjoint(event.replica.gpus)


def test_the_same_seed_gives_the_same_events() -> None:
    def run() -> Outcome:
        rng = np.random.default_rng(3)
        thinking = Thinking(lambda _: drawn_stages(rng, "ab"), takes_s=1.0)
        script = Script(seed=5, attempt_fails=0.1, dies_within_s=60.0, request_s=10.0)
        return run_bench(
            long_run(), script, then=asks_at(12.0, 30.0, 50.0), rescheduler=with_thinking(thinking)
        )

    first = run()
    assert len(decisions(first)) >= 3
    assert first.tape.events == run().tape.events


# --- one thing at a time ---


def test_a_switch_keeps_what_both_plans_have_and_the_requests_in_flight_on_it() -> None:
    outcome = run_bench(long_run(), SLOW, rescheduler=with_thinking(Thinking(once(ONLY_B01))))
    assert outcome.end.status == "succeeded"
    (decision,) = [d for d in decisions(outcome) if d.kind == "switch"]
    assert decision.what == "another: saves 20s, costs 5s"
    assert decision.saw.startswith("a finished")
    assert [a.ends_s for a in decision.alternatives] == [100.0, 80.0]
    (replanned,) = outcome.tape.of(Replanned)
    assert replanned.plan.plan.stages == ONLY_B01  # type: ignore[attr-defined]
    assert [event.index for event in outcome.tape.of(StageStarted)] == [0, 0]  # type: ignore[attr-defined]
    assert [e.replica.name for e in outcome.tape.of(EngineStarting)] == ["a.0", "b.1", "b.0"]  # type: ignore[attr-defined]
    stopped = outcome.tape.of(EngineStopped)
    assert [e.replica.name for e in stopped if e.at_s <= replanned.at_s + 2] == ["a.0"]  # type: ignore[attr-defined]


def test_what_came_of_a_switch_is_told_at_the_next_decision_and_at_the_end() -> None:
    outcome = run_bench(
        long_run(requests_of_b=60),
        SLOW,
        then=asks_at(60.0),
        rescheduler=with_thinking(Thinking(once(ONLY_B01))),
    )
    came: list[Came] = outcome.tape.of(Came)  # type: ignore[assignment]
    assert [c.final for c in came] == [False] * (len(came) - 1) + [True]
    assert len(came) >= 2
    assert {(c.number, c.predicted_s, c.stay_s) for c in came} == {(1, 80.0, 100.0)}
    assert came[-1].ended_s == outcome.tape.events[-1].at_s


def asks_at(*times_s: float) -> Callable[[Runner, Tape], None]:
    def then(runner: Runner, _: Tape) -> None:
        for at_s in times_s:
            assert runner.rescheduler
            asyncio.get_running_loop().call_later(at_s, runner.rescheduler.ask_for_decision, "me")

    return then


def test_an_operator_s_wish_is_decided_at_once_and_a_keep_says_what_the_best_change_is() -> None:
    outcome = run_bench(long_run(), SLOW, then=asks_at(1.5), rescheduler=with_thinking(Thinking()))
    first = decisions(outcome)[0]
    at_s = next(event.at_s for event in outcome.tape.of(Decided) if event.decision == first)  # type: ignore[attr-defined]
    assert at_s == pytest.approx(1.5, abs=0.01)
    assert (first.kind, first.chosen, first.what) == ("keep", 0, "the plan stays: there is no other")
    assert first.saw.startswith("me asked; a: 4 requests left, residual mean 7 tokens (prior")


def test_requests_go_on_while_a_decision_takes_long() -> None:
    """The thinking takes 30 s, in which others finish; what it says then is out of date and is not done."""
    thinking = Thinking(once(ONLY_B01), takes_s=30.0)
    outcome = run_bench(long_run(), SLOW, then=asks_at(12.0), rescheduler=with_thinking(thinking))
    during = [e for e in outcome.tape.of(RequestFinished) if 12.0 < e.at_s < 42.0]
    assert len(during) >= 4
    first = decisions(outcome)[0]
    assert (first.kind, first.chosen) == ("keep", 0)
    assert "the run had moved on meanwhile" in first.what
    assert [d.kind for d in decisions(outcome)[1:2]] == ["switch"], "it is decided again"


@pytest.mark.parametrize(("takes_s", "held"), [(2.0, True), (30.0, False)])
def test_a_change_of_stage_waits_for_a_decision_but_not_for_long(takes_s: float, held: bool) -> None:
    table = table_of("ab", [*[("a", ())] * 4, *[("b", ())] * 30])
    state = state_of(table, candidate_of(([A0, B1], "a"), ([Placement("b", 2, 1, (2, 3))], "b")))
    thinking = Thinking(once(ONLY_B01), takes_s=takes_s)
    outcome = run_bench(state, SLOW, rescheduler=with_thinking(thinking))
    started = [e.replica.name for e in outcome.tape.of(EngineStarting)]  # type: ignore[attr-defined]
    assert ("b.2-3" not in started) == held
    assert outcome.end.status == "succeeded"


def test_thinking_that_fails_is_a_note_and_the_run_goes_on() -> None:
    thinking = Thinking(once(ONLY_B01), fails=1)
    outcome = run_bench(long_run(), SLOW, then=asks_at(12.0), rescheduler=with_thinking(thinking))
    assert outcome.end.status == "succeeded"
    failed = [e.decision for e in outcome.tape.of(Decided) if "failed" in e.decision.what]  # type: ignore[attr-defined]
    assert [(d.kind, d.number) for d in failed] == [("keep", 0)]
    assert failed[0].what == "the plan stays: thinking about it failed (rescheduler: no answer after 60 s)"
    assert failed[0].saw == "me asked"


def test_a_plan_without_the_lost_gpu_saves_the_llm_that_had_it() -> None:
    """Without another plan the LLM would be given up as soon as its only GPU is lost."""
    elsewhere = (Stage((B1, Placement("a", 1, 1, (2,))), ("a", "b")),)

    def then(runner: Runner, _: Tape) -> None:
        def lose() -> None:
            runner.gpu_taken(0, "30 GiB of it are in use")
            runner._fleet.engine("a.0")._die()  # type: ignore[attr-defined]

        asyncio.get_running_loop().call_later(9.0, lose)

    thinking = Thinking(lambda s: elsewhere if s.unusable and s.stages != elsewhere else None)
    outcome = run_bench(long_run(20), SLOW, then=then, rescheduler=with_thinking(thinking))
    assert outcome.end.status == "succeeded"
    assert not outcome.tape.errors
    assert "GPU 0 quarantined: 30 GiB of it are in use" in decisions(outcome)[0].saw
    without = run_bench(long_run(20), SLOW, then=then)
    assert without.end.status == "failed"
    nothing = run_bench(long_run(20), SLOW, then=then, rescheduler=with_thinking(Thinking()))
    assert nothing.end.status == "failed", "where no plan helps the LLM is given up"


def test_a_plan_that_needs_a_lost_gpu_is_not_taken() -> None:
    """It was lost long before; whoever thinks does not know of it."""

    def then(runner: Runner, _: Tape) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, runner.gpu_taken, 3, "in use")
        assert runner.rescheduler
        loop.call_later(15.0, runner.rescheduler.ask_for_decision, "me")

    more = (Stage((A0, Placement("b", 1, 3, (1, 2, 3))), ("a", "b")),)
    outcome = run_bench(long_run(20), SLOW, then=then, rescheduler=with_thinking(Thinking(once(more))))
    assert outcome.end.status == "succeeded"
    assert {decision.kind for decision in decisions(outcome)} == {"keep"}
    assert "it needs b.3, which is lost" in decisions(outcome)[-1].what
    assert not outcome.tape.of(Replanned)
    check_unusable(outcome)


def test_an_llm_that_starts_nowhere_is_given_up_after_its_second_place() -> None:
    table = table_of("a", [("a", ())] * 3)
    state = state_of(table, candidate_of(([A0], "a")))
    places = iter(range(1, 4))
    thinking = Thinking(lambda _: (Stage((Placement("a", 1, 1, (next(places),)),), ("a",)),))
    outcome = run_bench(state, Script(start_fails=1.0), rescheduler=with_thinking(thinking))
    assert outcome.end.status == "failed"
    assert outcome.world.starts.keys() == {"a.0", "a.1"}


# --- asking ---


@pytest.mark.parametrize(
    ("answers", "kinds", "replans"),
    [
        ([(5.0, True)], ["accepted"], 1),
        ([(5.0, False)], ["refused"], 0),
        ([(5.0, True), (6.0, True), (7.0, False)], ["accepted"], 1),
        ([(5.0, False), (6.0, False), (7.0, True)], ["refused"], 0),
        ([(31.0, True)], ["expired"], 0),
        ([], ["expired"], 0),
    ],
)
def test_a_proposal_is_done_only_when_it_is_accepted_in_time(
    answers: list[tuple[float, bool]], kinds: list[str], replans: int
) -> None:
    said: list[str] = []

    def then(runner: Runner, _: Tape) -> None:
        loop = asyncio.get_running_loop()
        assert runner.rescheduler
        rescheduler = runner.rescheduler
        loop.call_later(12.0, rescheduler.ask_for_decision, "me")
        for after_s, accept in answers:
            loop.call_later(
                12.0 + after_s, lambda accept=accept: said.append(rescheduler.answer(1, "me", accept=accept))
            )

    state = long_run(requests_of_a=30, requests_of_b=30)
    thinking = Thinking(
        lambda s: (Stage((A0, Placement("b", 1, 2, (1, 2))), ("a", "b")),) if s.at_s < 13 else None
    )
    outcome = run_bench(state, SLOW, then=then, rescheduler=with_thinking(thinking, "ask", wait_s=30.0))
    assert [event.answer for event in outcome.tape.of(ProposalAnswered)] == kinds  # type: ignore[attr-defined]
    assert len(outcome.tape.of(Replanned)) == replans
    (proposed,) = outcome.tape.of(Proposed)
    assert proposed.deadline_s == pytest.approx(proposed.at_s + 30.0)  # type: ignore[attr-defined]
    ends = [d for d in decisions(outcome) if d.number == 1]
    assert [d.kind for d in ends] == ["switch" if replans else "keep"]
    if len(answers) > 1:
        assert said[0] == said[1] == "", "the same word again is no mistake"
        assert said[2] == f"proposal 1 was {kinds[0]} already"
    elif kinds == ["expired"] and answers:
        assert said == ["proposal 1 was expired already"]


def test_a_proposal_is_out_of_date_when_the_run_moves_on_and_is_decided_again() -> None:
    """`a` finishes while the operator thinks."""
    thinking = Thinking(once(ONLY_B01))
    outcome = run_bench(
        long_run(), SLOW, then=asks_at(11.0), rescheduler=with_thinking(thinking, "ask", wait_s=500.0)
    )
    answers: list[ProposalAnswered] = outcome.tape.of(ProposalAnswered)  # type: ignore[assignment]
    assert {event.answer for event in answers} == {"outdated"}
    assert len(answers) >= 2
    assert not outcome.tape.of(Replanned)
    check_numbers(outcome)


def test_nothing_is_proposed_twice_while_nothing_changes() -> None:
    state = long_run(requests_of_a=60, requests_of_b=60)
    more = (Stage((A0, Placement("b", 1, 2, (1, 2))), ("a", "b")),)
    thinking = Thinking(once(more), ends_s=400.0)
    outcome = run_bench(
        state, SLOW, then=asks_at(11.0), rescheduler=with_thinking(thinking, "ask", wait_s=20.0)
    )
    before_a_finished = [e for e in outcome.tape.of(Proposed) if e.at_s < 150.0]
    assert len(before_a_finished) == 1
