"""No plan beats the lower bound: not the planners', not a random one, not the best one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from exact import best_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_problems import (
    SmallNode,
    drawn,
    ensemble,
    islands,
    model,
    problem,
    problems,
    problems_with_options,
    summary,
)
from random_plans import random_plan
from small_cases import SmallCase, small_case

from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.bound import lower_bound
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.search import search
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.application import Problem, simulate_plan

SEEDS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 16, 17, 18, 20, 26, 28, 29, 30, 90, 141, 197)
"""Small cases that take little time together."""
SEARCH_MEAN, SEARCH_WORST = 0.01, 0.05
"""Excess over the best plan that the search may have on these."""


@settings(max_examples=80)
@given(problems(), st.integers(0, 2**31))
def test_no_random_plan_beats_it(some: Problem, seed: int) -> None:
    lengths = drawn(some, seed)
    bound_s = lower_bound(some, lengths)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        plan = random_plan(some, lengths, rng)
        assert valid(some, plan) == []
        assert bound_s <= simulate_plan(some, plan, lengths).makespan_s


@settings(max_examples=150, deadline=None)
@given(problems_with_options(), st.integers(0, 2**31))
def test_no_random_plan_beats_it_whatever_the_engines_options(some: Problem, seed: int) -> None:
    test_no_random_plan_beats_it.hypothesis.inner_test(some, seed)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_no_random_plan_beats_it_where_one_llm_feeds_all(seed: int) -> None:
    some, rng = summary(), np.random.default_rng(seed)
    lengths = drawn(some, seed)
    plans = [random_plan(some, lengths, rng) for _ in range(4)]
    assert lower_bound(some, lengths) <= min(simulate_plan(some, plan, lengths).makespan_s for plan in plans)


@settings(max_examples=40)
@given(problems(), st.integers(0, 2**31))
def test_more_gpus_never_raise_it(some: Problem, seed: int) -> None:
    lengths = drawn(some, seed)
    size = len(some.islands[0])
    larger = Problem(some.table, some.llms, some.gpus + size, islands(some.gpus + size, size))
    assert lower_bound(larger, lengths) <= lower_bound(some, lengths) * (1 + 1e-3)


@dataclass(frozen=True)
class Tried:
    bound_s: float
    best_s: float
    planned_s: tuple[float, ...]
    """Of the search, then of the other planners."""


@pytest.fixture(scope="module")
def tried() -> list[Tried]:
    return [_try(small_case(seed)) for seed in SEEDS]


def _try(case: SmallCase) -> Tried:
    some, lengths = case.problem, case.output_tokens
    plans = [search(some, lengths, np.random.default_rng(0))]
    plans += [planner(some, lengths) for planner in (greedy, min_heuristic, max_heuristic)]
    best = best_plan(some, lengths)
    assert valid(some, best.plan) == []
    assert simulate_plan(some, best.plan, lengths).makespan_s == pytest.approx(best.makespan_s)
    makespans = tuple(simulate_plan(some, plan, lengths).makespan_s for plan in plans)
    return Tried(lower_bound(some, lengths), best.makespan_s, makespans)


def test_no_planner_beats_the_best_plan(tried: list[Tried]) -> None:
    assert all(one.best_s <= min(one.planned_s) * (1 + 1e-9) for one in tried)


def test_the_best_plan_does_not_beat_the_bound_and_is_near_it(tried: list[Tried]) -> None:
    assert all(one.bound_s <= one.best_s for one in tried)
    assert np.median([one.best_s / one.bound_s for one in tried]) <= 1.05


def test_the_search_is_near_the_best_plan(tried: list[Tried]) -> None:
    excess = [one.planned_s[0] / one.best_s - 1 for one in tried]
    assert np.mean(excess) <= SEARCH_MEAN
    assert max(excess) <= SEARCH_WORST
    greedy_excess = [one.planned_s[1] / one.best_s - 1 for one in tried]
    assert np.mean(excess) < np.mean(greedy_excess)


def test_it_is_the_makespan_where_there_is_no_choice() -> None:
    some = problem([model("x", tps=(1,))], [SmallNode("x", 12)], gpus=1)
    lengths = drawn(some)
    plan = greedy(some, lengths)
    assert lower_bound(some, lengths) == pytest.approx(
        simulate_plan(some, plan, lengths).makespan_s, rel=1e-3
    )


def test_it_is_close_where_one_llm_feeds_all() -> None:
    some = summary()
    lengths = drawn(some)
    makespan_s = simulate_plan(some, min_heuristic(some, lengths), lengths).makespan_s
    assert lower_bound(some, lengths) >= 0.85 * makespan_s


def test_llms_that_share_a_gpu_are_both_loaded_on_it() -> None:
    """Loads of 5, 6 and 7 s on two GPUs: the two short ones on one of them, or one of the three on both."""
    some = ensemble(llms=3, requests=1, gpus=2)
    assert [llm.shapes[0].load_s for llm in some.llms] == [5.0, 6.0, 7.0]
    assert 10.9 < lower_bound(some, np.ones(3, np.int64)) < 11.5
