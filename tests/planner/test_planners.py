"""What every planner promises, on small problems of every shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planning_problems import SmallNode, drawn, ensemble, model, problem, problems, summary

from samullm_tui.domain.errors import PlacementError
from samullm_tui.domain.plan import Plan
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.bound import lower_bound
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.rank import rank
from samullm_tui.planner.search import search
from samullm_tui.planner.study import Study
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.application import Problem, simulate_plan


def quick_search(some: Problem, lengths: IntArray) -> Plan:
    return search(some, lengths, np.random.default_rng(0), requests=5 * len(some.table))


PLANNERS = (quick_search, greedy, min_heuristic, max_heuristic)
QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(problems(), st.integers(0, 5))
def test_every_plan_is_valid_and_no_plan_beats_the_lower_bound(some: Problem, seed: int) -> None:
    lengths, others = drawn(some, seed), drawn(some, seed + 100)
    for planner in PLANNERS:
        plan = planner(some, lengths)
        assert valid(some, plan) == []
        for outputs in (lengths, others):
            trace = simulate_plan(some, plan, outputs)
            assert lower_bound(some, outputs) <= trace.makespan_s
            assert not np.isnan(trace.finish_s).any()


@QUICK
@given(problems())
def test_the_same_lengths_give_the_same_plan(some: Problem) -> None:
    for planner in PLANNERS:
        assert planner(some, drawn(some)) == planner(some, drawn(some))


@QUICK
@given(problems(), st.sampled_from([0.1, 0.5, 0.9]))
def test_candidates_come_best_first_and_none_beats_the_bound(some: Problem, quantile: float) -> None:
    draws = [drawn(some, seed) for seed in range(3)]
    candidates = rank(
        Study(some, draws), [planner(some, draws[0]) for planner in PLANNERS], quantile
    ).candidates
    assert [c.rank for c in candidates] == [1, 2, 3, 4]
    values = {
        c.rank: float(np.quantile([simulate_plan(some, c.plan, d).makespan_s for d in draws], quantile))
        for c in candidates
    }
    assert all(values[a] <= 1.005 * values[b] for a in values for b in values if a < b)
    assert all(c.gap >= 0 for c in candidates)
    assert all(len(c.stages) == len(c.plan.stages) and c.explanation for c in candidates)


def test_max_heuristic_gives_one_llm_all_gpus_at_a_time() -> None:
    some = ensemble()
    plan = max_heuristic(some, drawn(some))
    assert [len(stage.placements) for stage in plan.stages] == [1, 1, 1]
    assert {len(stage.placements[0].gpus) for stage in plan.stages} == {some.gpus}


def test_min_heuristic_runs_all_ready_llms_and_splits_evenly() -> None:
    some = ensemble(llms=4, gpus=4)
    first = min_heuristic(some, drawn(some)).stages[0]
    assert [len(p.gpus) for p in first.placements] == [1, 1, 1, 1]
    some = ensemble(llms=2, gpus=4)
    first = min_heuristic(some, drawn(some)).stages[0]
    assert [len(p.gpus) for p in first.placements] == [2, 2]


def test_search_and_greedy_are_no_worse_than_one_llm_at_a_time_on_an_ensemble() -> None:
    some = ensemble(llms=4, requests=60)
    lengths = drawn(some)
    makespan = {p: simulate_plan(some, p(some, lengths), lengths).makespan_s for p in PLANNERS}
    assert makespan[greedy] <= makespan[max_heuristic]
    assert makespan[quick_search] <= makespan[max_heuristic]


def test_search_finds_the_only_good_split() -> None:
    """One long LLM and three short ones on two GPUs: the short ones one after another beside the long one."""
    llms = [model("long", tps=(1,), load_s=1.0), *(model(f"s{k}", tps=(1,), load_s=1.0) for k in range(3))]
    some = problem(
        llms, [SmallNode("long", 16), *(SmallNode(f"s{k}", 16) for k in range(3))], gpus=2, island=1
    )
    lengths = np.where(some.table.llm == 0, 300, 100)
    plan = quick_search(some, lengths)
    assert [{p.llm for p in stage.placements} >= {"long"} for stage in plan.stages[:3]] == [True] * 3
    makespan = simulate_plan(some, plan, lengths).makespan_s
    assert makespan < 0.7 * simulate_plan(some, max_heuristic(some, lengths), lengths).makespan_s


def test_a_consumer_runs_beside_its_producer() -> None:
    some = summary()
    first = min_heuristic(some, drawn(some)).stages[0]
    assert {p.llm for p in first.placements} == {"writer", "judge"}


def test_llms_that_feed_each_other_share_a_stage() -> None:
    llms = [model("x"), model("y")]
    nodes = [SmallNode("x", 5), SmallNode("y", 5, sources=(0,)), SmallNode("x", 5, sources=(1,))]
    some = problem(llms, nodes, gpus=2, island=1)
    for planner in PLANNERS:
        plan = planner(some, drawn(some))
        assert {p.llm for p in plan.stages[0].placements} == {"x", "y"}
        assert valid(some, plan) == []


@pytest.mark.parametrize("planner", PLANNERS)
def test_llms_that_feed_each_other_and_do_not_fit_together_are_named(planner: object) -> None:
    llms = [model("x", tps=(2,)), model("y", tps=(2,))]
    nodes = [SmallNode("x", 5), SmallNode("y", 5, sources=(0,)), SmallNode("x", 5, sources=(1,))]
    some = problem(llms, nodes, gpus=2)
    with pytest.raises(PlacementError, match="LLMs x, y: they feed each other and need 4 GPUs"):
        planner(some, drawn(some))  # type: ignore[operator]


@pytest.mark.parametrize("planner", PLANNERS)
def test_every_llm_that_fits_nowhere_is_named(planner: object) -> None:
    llms = [model("x", tps=(4,)), model("y", tps=(4,)), model("z")]
    some = problem(llms, [SmallNode("x"), SmallNode("y"), SmallNode("z")], gpus=4)
    with pytest.raises(PlacementError) as caught:
        planner(some, drawn(some))  # type: ignore[operator]
    assert [p.place for p in caught.value.problems] == ["LLM x", "LLM y"]


def test_an_llm_without_requests_is_not_placed() -> None:
    some = problem([model("x"), model("unused")], [SmallNode("x")])
    for planner in PLANNERS:
        plan = planner(some, drawn(some))
        assert {p.llm for stage in plan.stages for p in stage.placements} == {"x"}
        assert valid(some, plan) == []
