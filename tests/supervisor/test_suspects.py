"""Promise 11: a request that kills engines is found by halving and becomes an error row; all others get their output."""

from __future__ import annotations

from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import Outcome, Script, candidate_of, run_bench, state_of, table_of

from samullm_tui.domain.event import EngineFailed, RequestFinished
from samullm_tui.domain.plan import Placement
from samullm_tui.supervisor.suspects import MAX_CONVICTED, Suspects, Verdict

ONE = Placement("a", 1, 1, (0,))
TWO = Placement("a", 1, 2, (0, 1))
OTHER = Placement("b", 1, 1, (2,))


def run(script: Script, placement: Placement = ONE, requests: int = 40) -> Outcome:
    """`requests` of LLM `a`, and two of `b`, which has an engine of its own."""
    table = table_of("ab", [*[("a", ())] * requests, ("b", ()), ("b", ())])
    return run_bench(state_of(table, candidate_of(([placement, OTHER], "ab"))), script)


def guilty(outcome: Outcome) -> set[int]:
    return {int(row.id) for row in outcome.tape.errors if row.error.startswith("kills engines:")}


def deaths(outcome: Outcome) -> int:
    return len(outcome.tape.of(EngineFailed))


@pytest.mark.parametrize("fails_first", [False, True])
@pytest.mark.parametrize("placement", [ONE, TWO])
@pytest.mark.parametrize("poison", [0, 7, 15, 16, 39])
def test_the_one_that_kills_is_found_and_all_others_get_their_output(
    poison: int, placement: Placement, fails_first: bool
) -> None:
    script = Script(seed=poison, max_in_flight=16, poison=frozenset({poison}), fails_first=fails_first)
    outcome = run(script, placement)
    assert guilty(outcome) == {poison}
    assert [int(row.id) for row in outcome.tape.errors] == [poison]
    assert len(outcome.tape.outputs) == 41
    assert not any(event.gave_up for event in outcome.tape.of(EngineFailed))  # type: ignore[attr-defined]
    # Twice before anybody is a suspect, then halves of what was in flight both times, and the last one alone.
    assert deaths(outcome) <= 2 + ceil(log2(16)) + 1
    assert outcome.end.status == "failed"
    assert outcome.end.cause.startswith("kills engines:")


def test_with_a_thousand_in_flight_it_takes_about_ten_deaths() -> None:
    outcome = run(Script(max_in_flight=1000, poison=frozenset({617})), requests=1000)
    assert guilty(outcome) == {617}
    assert deaths(outcome) <= 2 + ceil(log2(1000)) + 1


@pytest.mark.parametrize("poison", [{3, 4}, {0, 39}, {5, 6, 30}, {1, 9, 17, 25, 33}])
def test_each_of_several_is_found(poison: set[int]) -> None:
    outcome = run(Script(max_in_flight=16, poison=frozenset(poison)))
    assert guilty(outcome) == poison
    assert len(outcome.tape.outputs) == 42 - len(poison)


def test_an_engine_that_dies_of_everything_is_given_up_soon_and_the_others_go_on() -> None:
    outcome = run(Script(max_in_flight=16, poison=frozenset(range(40))))
    assert len(guilty(outcome)) == MAX_CONVICTED
    assert sum(row.error.startswith("engine gave up:") for row in outcome.tape.errors) == 40 - MAX_CONVICTED
    assert {row.llm for row in outcome.tape.outputs} == {"b"}
    assert deaths(outcome) <= 12


@pytest.mark.parametrize("poison", [7, 15])
def test_suspects_are_tried_by_halves_and_with_nothing_else_on_their_engine(poison: int) -> None:
    outcome = run(Script(max_in_flight=16, poison=frozenset({poison})))
    assert guilty(outcome) == {poison}
    assert len(outcome.world.died_with) == 6
    for died_with, at_most in zip(outcome.world.died_with, (16, 16, 8, 4, 2, 1), strict=True):
        assert died_with <= at_most


def test_while_suspects_are_tried_the_other_replica_goes_on() -> None:
    outcome = run(Script(max_in_flight=4, poison=frozenset({39})), TWO, requests=60)
    assert guilty(outcome) == {39}
    assert {name for name, _ in outcome.world.served if name.startswith("a")} == {"a.0", "a.1"}
    failed = outcome.tape.of(EngineFailed)
    began, ended = failed[1].at_s, failed[-1].at_s
    dead = {event.replica.name for event in failed[2:]}  # type: ignore[attr-defined]
    assert began < ended
    meanwhile = [e for e in outcome.tape.of(RequestFinished) if began < e.at_s < ended]
    assert {e.replica for e in meanwhile} & ({"a.0", "a.1"} - dead)  # type: ignore[attr-defined]


@settings(max_examples=120)
@given(
    requests=st.integers(1, 30),
    poison=st.sets(st.integers(0, 29), max_size=2),
    in_flight=st.integers(1, 12),
    placement=st.sampled_from([ONE, TWO]),
    fails_first=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_innocent_always_get_their_output(
    requests: int, poison: set[int], in_flight: int, placement: Placement, fails_first: bool, seed: int
) -> None:
    poison = {index for index in poison if index < requests}
    script = Script(
        seed=seed, max_in_flight=in_flight, poison=frozenset(poison), fails_first=fails_first, request_s=3.0
    )
    outcome = run(script, placement, requests)
    assert guilty(outcome) == poison
    assert {int(row.id) for row in outcome.tape.outputs} == set(range(requests + 2)) - poison


# --- the bookkeeping ---


def test_one_death_makes_no_suspect() -> None:
    assert Suspects().engine_died("a", [1, 2, 3]) == Verdict(None, ())


def test_only_who_was_there_twice_is_a_suspect() -> None:
    suspects = Suspects()
    suspects.engine_died("a", [1, 2, 3])
    assert suspects.engine_died("a", [3, 4, 2, 5]) == Verdict(None, ((3,), (2,)))


def test_who_finishes_is_no_suspect_any_more() -> None:
    suspects = Suspects()
    suspects.engine_died("a", [1, 2])
    suspects.finished("a", 1)
    assert suspects.engine_died("a", [1, 2]) == Verdict(None, ((2,),))


def test_nobody_is_guilty_who_was_never_alone_or_of_the_first_deaths() -> None:
    suspects = Suspects()
    assert suspects.engine_died("a", [1]).guilty is None
    assert suspects.engine_died("a", [1]) == Verdict(None, ((1,),))
    assert suspects.engine_died("a", [1, 2]).guilty is None
    assert suspects.engine_died("a", [1]) == Verdict(1, ())


def test_three_in_a_row_without_a_finish_mean_that_the_engine_is_broken() -> None:
    suspects = Suspects()
    for index in (1, 2, 3):
        assert not suspects.is_broken("a")
        for _ in range(3):
            suspects.engine_died("a", [index])
    assert suspects.is_broken("a")
    assert not suspects.is_broken("b")
    suspects.finished("a", 4)
    assert not suspects.is_broken("a")
