"""The anytime search: never worse than its starts, better over time, the same for the same seed, within its budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planning_problems import SmallNode, drawn, ensemble, model, problem, problems, summary
from small_cases import small_case

from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.replay import Replays
from samullm_tui.planner.search import improving_plans, search
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.application import Problem, simulate_plan

STARTS = (greedy, min_heuristic, max_heuristic)
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BUDGET = 60_000


def found(some: Problem, draws: Sequence[IntArray], seed: int = 0, requests: int = BUDGET) -> list[Plan]:
    rng = np.random.default_rng(seed)
    return list(improving_plans(some, draws[0], rng, others=draws[1:], requests=requests))


def value(some: Problem, plan: Plan, draws: Sequence[IntArray]) -> tuple[int, int]:
    """Mean makespan in milliseconds, then loads."""
    traces = [simulate_plan(some, plan, draw) for draw in draws]
    return round(1000 * float(np.mean([trace.makespan_s for trace in traces]))), traces[0].loads


@QUICK
@given(problems(), st.integers(0, 5), st.integers(1, 3))
def test_each_plan_is_valid_and_better_and_none_is_worse_than_the_starts(
    some: Problem, seed: int, count: int
) -> None:
    draws = [drawn(some, seed + k) for k in range(count)]
    plans = found(some, draws)
    values = [value(some, plan, draws) for plan in plans]
    assert all(after < before for before, after in pairwise(values))
    assert all(plan.planner == "search" and valid(some, plan) == [] for plan in plans)
    for planner in STARTS:
        assert values[-1][0] <= value(some, planner(some, draws[0]), draws)[0]


@QUICK
@given(problems(), st.integers(0, 5))
def test_the_same_seed_gives_the_same_plans_and_a_smaller_budget_none_better(
    some: Problem, seed: int
) -> None:
    draws = [drawn(some, seed)]
    plans = found(some, draws, seed)
    assert plans == found(some, draws, seed)
    assert search(some, draws[0], np.random.default_rng(seed), requests=BUDGET) == plans[-1]
    first = next(improving_plans(some, draws[0], np.random.default_rng(seed)))
    assert first == plans[0], "stopping early costs nothing but quality"


def test_the_budget_bounds_what_is_simulated() -> None:
    some = ensemble(llms=4, requests=60)
    lengths = drawn(some, most=200)
    spent = []
    for requests in (0, 100_000, 400_000):
        task = Task(some, lengths)
        search(some, lengths, np.random.default_rng(0), task, requests=requests)
        spent.append(task.replays.requests)
    one_plan = 20 * (2_000 + len(some.table))
    assert spent[0] < spent[1] < spent[2]
    assert spent[1] <= spent[0] + 100_000 + one_plan
    assert spent[2] <= spent[0] + 400_000 + one_plan


def test_a_budget_finds_what_the_other_planners_do_not() -> None:
    some = ensemble(llms=5, requests=100)
    draws = [drawn(some, most=300)]
    starts = [
        value(some, planner(some, draws[0]), draws) for planner in (greedy, min_heuristic, max_heuristic)
    ]
    assert value(some, found(some, draws)[-1], draws) < min(starts)


def test_work_is_split_so_that_gpus_end_together() -> None:
    """Three equal LLMs on two GPUs: the third is shared, so that none of the two GPUs waits."""
    llms = [model(f"m{k}", tps=(1,), load_s=0.1, max_num_seqs=4) for k in range(3)]
    some = problem(llms, [SmallNode(m.name, 80) for m in llms], gpus=2, island=1)
    lengths = np.full(len(some.table), 100)
    plan = search(some, lengths, np.random.default_rng(0), requests=500_000)
    trace = simulate_plan(some, plan, lengths)
    assert trace.gpu_busy_s > 0.97 * 2 * trace.makespan_s


def test_a_running_llm_makes_room_when_that_pays() -> None:
    """`b` feeds `c`, which is long; `a` may have all other GPUs until `c` needs two of them."""
    llms = [
        model("a", tps=(1,), load_s=0.1),
        model("b", tps=(1,), load_s=0.1),
        model("c", tps=(2,), load_s=0.1),
    ]
    nodes = [SmallNode("a", 120), SmallNode("b", 16), SmallNode("c", 16, sources=(1,))]
    some = problem(llms, nodes, gpus=4)
    lengths = np.array([60] * 120 + [60] * 16 + [300] * 16)
    best = simulate_plan(some, search(some, lengths, np.random.default_rng(0), requests=10**6), lengths)
    for planner in STARTS:
        assert best.makespan_s <= simulate_plan(some, planner(some, lengths), lengths).makespan_s
    assert best.makespan_s < 1.15 * max(best.gpu_busy_s / 4, 7.9)


def test_llms_that_feed_each_other_need_not_all_run_at_once() -> None:
    """On two GPUs `a` first runs alone beside the long `c`, then gives its GPU to `b`, which feeds it elsewhere."""
    case = small_case(90)
    some, draws = case.problem, [case.output_tokens]
    together = min(value(some, planner(some, draws[0]), draws)[0] for planner in STARTS)
    assert value(some, found(some, draws, requests=1_000_000)[-1], draws)[0] < 0.75 * together


def test_what_an_llm_takes_does_not_depend_on_when_its_sources_finished() -> None:
    """Estimates made late in one plan are used early in others."""
    case = small_case(175)
    plan = found(case.problem, [case.output_tokens], requests=2_000_000)[-1]
    best_s = 15.229
    """Found by trying all plans."""
    assert simulate_plan(case.problem, plan, case.output_tokens).makespan_s <= 1.001 * best_s


@pytest.mark.parametrize("seed", [19, 90, 141, 197])
def test_what_a_stage_waits_for_ends_whatever_the_lengths_are(seed: int) -> None:
    """Plans in which an LLM is stopped, or parted from those that it feeds, finish for other lengths too."""
    case = small_case(seed)
    some = case.problem
    plans = found(some, [case.output_tokens], requests=1_000_000)
    for other in range(10):
        lengths = drawn(some, other, most=200)
        assert all(simulate_plan(some, plan, lengths).makespan_s > 0 for plan in plans)


@pytest.mark.parametrize("count", [0, 1])
def test_no_request_and_one_request(count: int) -> None:
    some = problem([model("x"), model("y")], [SmallNode("x", count), SmallNode("y", 0)], gpus=2)
    plan = search(some, drawn(some), np.random.default_rng(0), requests=BUDGET)
    assert valid(some, plan) == []
    assert {p.llm for stage in plan.stages for p in stage.placements} == ({"x"} if count else set())


def test_sixteen_gpus() -> None:
    some = ensemble(llms=6, requests=50, gpus=16)
    draws = [drawn(some, most=200)]
    plan = found(some, draws)[-1]
    assert valid(some, plan) == []
    assert value(some, plan, draws)[0] <= value(some, max_heuristic(some, draws[0]), draws)[0]


@QUICK
@given(problems(), st.integers(0, 3))
def test_replaying_a_plan_ends_as_simulating_it_does(some: Problem, seed: int) -> None:
    replays = Replays(some)
    lengths, others = drawn(some, seed), drawn(some, seed + 50)
    for planner in (greedy, min_heuristic, max_heuristic, greedy):
        plan = planner(some, lengths)
        for draw in (lengths, others):
            trace, moment = simulate_plan(some, plan, draw), replays.end(plan, draw)
            assert (moment.at_s, moment.loads) == (trace.makespan_s, trace.loads)


def test_what_was_simulated_is_not_simulated_again() -> None:
    some, replays = summary(), Replays(summary())
    lengths = drawn(some)
    plan = greedy(some, lengths)
    replays.end(plan, lengths)
    once = replays.requests
    replays.end(plan, lengths)
    assert replays.requests - once < once / 2


def test_taking_a_few_plans_only_is_possible() -> None:
    some = ensemble(llms=5, requests=40)
    plans = list(islice(improving_plans(some, drawn(some), np.random.default_rng(0), requests=10**12), 2))
    assert len(plans) == 2
