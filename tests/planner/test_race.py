"""Plans compared on common draws: who comes first, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from planning_problems import drawn, ensemble, problems

from samullm_tui.domain.plan import Plan, faster_draws
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.bound import lower_bound
from samullm_tui.planner.explain import compare
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.race import BOUND_DRAWS, FEW_BOUNDS, TIE, Effort, order, race
from samullm_tui.planner.rank import rank
from samullm_tui.planner.study import Study, bound_s, figures
from samullm_tui.simulate.application import Problem, simulate_plan

QUICK = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLANNERS = (greedy, min_heuristic, max_heuristic)


def effort_of(requests: int) -> Effort:
    return Effort(requests, np.random.default_rng(0))


def plans_of(some: Problem) -> list[Plan]:
    return [planner(some, drawn(some, 99)) for planner in PLANNERS]


@QUICK
@given(problems(), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2000))
def test_the_first_is_behind_nobody_on_the_draws_they_share(
    some: Problem, quantile: float, effort: int
) -> None:
    draws = [drawn(some, seed) for seed in range(24)]
    candidates = rank(Study(some, draws), plans_of(some), quantile, effort=effort_of(effort)).candidates
    first = candidates[0]
    assert all(first.draws >= other.draws > 0 for other in candidates), "the first has the most draws"
    for other in candidates:
        both = min(first.draws, other.draws)
        a, b = (float(np.quantile(c.makespans_s[:both], quantile)) for c in (first, other))
        assert a <= (1 + TIE) * b + 1e-9
        shown = [float(np.quantile(c.makespans_s, quantile)) for c in (first, other)]
        assert shown[0] <= (1 + TIE) * shown[1] + 1e-9, "and not by the figures that are shown"
    assert [c.rank for c in candidates] == [1, 2, 3]


@QUICK
@given(problems(), st.integers(0, 1000))
def test_every_figure_is_that_of_a_whole_simulation(some: Problem, effort: int) -> None:
    draws = [drawn(some, seed) for seed in range(8)]
    for candidate in rank(Study(some, draws), plans_of(some), effort=effort_of(effort)).candidates:
        simulated = [simulate_plan(some, candidate.plan, d).makespan_s for d in draws[: candidate.draws]]
        assert list(candidate.makespans_s) == simulated
        assert candidate.makespan_s.p50 == pytest.approx(float(np.quantile(simulated, 0.5)))


def test_without_a_bound_on_the_effort_every_plan_gets_every_draw() -> None:
    some = ensemble()
    draws = [drawn(some, seed) for seed in range(9)]
    assert {c.draws for c in rank(Study(some, draws), plans_of(some)).candidates} == {9}


def test_a_plan_that_is_clearly_slower_gets_fewer_draws() -> None:
    some = ensemble(llms=4, requests=40)
    plans = plans_of(some)
    study = Study(some, [drawn(some, seed) for seed in range(60)])
    found = race(study, plans, 0.5, effort=effort_of(20_000))
    counts = {plan.planner: len(m) for plan, m in zip(plans, found.makespans_s, strict=True)}
    slow = max(range(len(plans)), key=lambda k: found.values()[k])
    assert found.values()[slow] > 1.5 * min(found.values())
    assert counts[plans[slow].planner] < max(counts.values())
    assert found.simulated * len(some.table) <= 20_000


def test_the_first_gets_every_draw_that_the_effort_allows() -> None:
    some = ensemble()
    same = drawn(some)
    for effort, draws in ((400 * len(some.table), 200), (90 * len(some.table), 60)):
        found = race(Study(some, [same] * 200), plans_of(some), 0.5, effort=effort_of(effort))
        assert draws <= len(found.makespans_s[found.ranking()[0]]) <= 200
        assert found.simulated * len(some.table) <= effort


class Counted(list[IntArray]):
    """Draws that count how often they were asked for."""

    asked = 0

    def __getitem__(self, number):  # type: ignore[no-untyped-def, override]
        self.asked += 1
        return super().__getitem__(number)

    def __iter__(self) -> Iterator[IntArray]:
        raise AssertionError("all draws at once")


def test_draws_are_made_one_at_a_time_and_only_those_needed() -> None:
    some = ensemble()
    draws = Counted(drawn(some, seed) for seed in range(200))
    candidates = rank(Study(some, draws), plans_of(some), effort=effort_of(3000)).candidates
    most = max(c.draws for c in candidates)
    assert most < 200
    assert draws.asked <= 3 * most + len(candidates) + 1


def test_what_is_known_of_the_first_draws_is_not_simulated_again() -> None:
    some = ensemble()
    draws = [drawn(some, seed) for seed in range(30)]
    study, (first, *others) = Study(some, draws), plans_of(some)
    known = {plan: figures(study, 0, [plan]) + figures(study, 1, [plan]) for plan in others}

    class Watched(Study):
        def run(self, call: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
            if call is figures:
                assert all(list(plans) == [first] for number, plans in jobs if number < 2)
            return super().run(call, jobs)

    assert rank(Watched(some, draws), [first, *others], known=known) == rank(study, [first, *others])
    requests = 40 * len(some.table)
    ranking = rank(Watched(some, draws), [first, *others], effort=effort_of(requests), known=known)
    assert ranking == rank(study, [first, *others], effort=effort_of(requests))


def test_several_at_a_time_gives_the_same() -> None:
    some = ensemble()
    draws = [drawn(some, seed) for seed in range(10)]

    class Backwards(Study):
        def run(self, call: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
            return [call(self, *job) for job in reversed(jobs)][::-1]

    assert rank(Backwards(some, draws), plans_of(some)) == rank(Study(some, draws), plans_of(some))


def test_the_bound_of_the_draws_in_the_middle_is_the_median_bound() -> None:
    some = ensemble()
    sizes = np.random.default_rng(0).permutation(60) * 6 + 10
    draws = [np.full(len(some.table), size) for size in sizes]
    bounds_s = [lower_bound(some, lengths) for lengths in draws]
    assert np.std(bounds_s) > 0.1 * np.mean(bounds_s), "the case is one in which it matters"
    assert abs(np.median(bounds_s[:BOUND_DRAWS]) / np.median(bounds_s) - 1) > 0.02, (
        "the first ones will not do"
    )
    found = race(Study(some, draws), plans_of(some)[:1], 0.5)
    assert found.bound_s() == pytest.approx(np.median(bounds_s), rel=0.01)
    few = race(Study(some, draws[:BOUND_DRAWS]), plans_of(some)[:1], 0.5)
    assert few.bound_s() == np.median(bounds_s[:BOUND_DRAWS])


@pytest.mark.parametrize(("differ", "computed"), [(False, FEW_BOUNDS), (True, BOUND_DRAWS)])
def test_bounds_are_computed_for_few_draws_where_they_hardly_differ(differ: bool, computed: int) -> None:
    some = ensemble()
    draws = [np.full(len(some.table), 10 + 6 * k * differ) for k in range(40)]
    asked: list[int] = []

    class Counting(Study):
        def run(self, call: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
            if call is bound_s:
                asked.extend(number for (number,) in jobs)
            return super().run(call, jobs)

    assert race(Counting(some, draws), plans_of(some)[:1], 0.5).bound_s() > 0
    assert len(set(asked)) == len(asked) == computed


def test_faster_draws_counts_the_pairs() -> None:
    some = ensemble()
    draws = [drawn(some, seed) for seed in range(10)]
    best, *others = rank(Study(some, draws), plans_of(some)).candidates
    for other in others:
        won = sum(a < b for a, b in zip(best.makespans_s, other.makespans_s, strict=True))
        assert faster_draws(best, other) == (won, 10)
        assert f"faster in {faster_draws(other, best)[0]} of 10 draws" in other.explanation[0]
        assert f"than {other.plan.planner} in {won} of 10" in " ".join(best.explanation)


def test_words_compare_by_the_quantile_that_ranks() -> None:
    """Two plans of which one is better at p50 and the other at p90."""
    some = ensemble(llms=1)
    plans = plans_of(some)[:2]
    steady, risky = (
        replace(candidate, rank=k, makespans_s=values)
        for k, candidate, values in (
            (1, rank(Study(some, [drawn(some)]), plans[:1]).candidates[0], (100.0,) * 10),
            (2, rank(Study(some, [drawn(some)]), plans[1:]).candidates[0], (80.0,) * 8 + (200.0,) * 2),
        )
    )
    risky = replace(risky, plan=replace(risky.plan, planner="risky"))
    assert "(100 %) slower" in compare([steady, risky], 2, 0.9)[0]
    assert "faster in 8 of 10 draws" in compare([steady, risky], 2, 0.9)[0]


def test_plans_that_are_mostly_equal_are_not_called_slower() -> None:
    some = ensemble(llms=1)
    first = rank(Study(some, [drawn(some)]), plans_of(some)[:1]).candidates[0]
    best = replace(first, makespans_s=(100.0,) * 10)
    other = replace(
        first, rank=2, plan=replace(first.plan, planner="other"), makespans_s=(100.0,) * 9 + (101.0,)
    )
    assert "As fast as other in 9 of 10 draws." in compare([best, other], 1)


@given(st.lists(st.tuples(st.floats(1, 2), st.integers(0, 9)), min_size=1, max_size=8))
def test_fewer_loads_win_only_within_a_tie(plans: list[tuple[float, int]]) -> None:
    values, loads = [v for v, _ in plans], [n for _, n in plans]
    first, *_ = ranking = order(values, loads)
    assert sorted(ranking) == list(range(len(plans)))
    assert values[first] <= (1 + TIE) * min(values)
    tied = [k for k in range(len(plans)) if values[k] <= (1 + TIE) * min(values)]
    assert loads[first] == min(loads[k] for k in tied)
