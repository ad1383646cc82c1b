"""The words of a plan say what its simulation said."""

from __future__ import annotations

import pytest
from planning_problems import drawn, ensemble, summary

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.explain import explain
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.rank import rank
from samullm_tui.planner.words import duration, gpu_list, joined
from samullm_tui.simulate.application import simulate_plan


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (1.46, "1.5 s"), (9.96, "10 s"), (59.6, "1m 00s"), (412, "6m 52s"), (3840, "1h 04m")],
)
def test_durations_read_as_a_person_says_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_lists_are_short() -> None:
    assert gpu_list([5, 0, 1, 2]) == "GPU 0–2, 5"
    assert (joined([]), joined(["a"]), joined(["a", "b", "c"])) == ("", "a", "a, b and c")


def test_a_stage_says_what_starts_what_stays_and_what_ends_it() -> None:
    some = summary()
    writer, judge = Placement("writer", 1, 2, (0, 1)), Placement("judge", 2, 1, (2, 3))
    larger = Placement("judge", 2, 2, (2, 3, 0, 1))
    plan = Plan(
        planner="test", stages=(Stage((writer, judge), ("writer",), "Because."), Stage((larger,), ("judge",)))
    )
    trace = simulate_plan(some, plan, drawn(some))
    first, why, beside, second, gpu_time = explain(some, plan, trace)
    assert first.startswith("Stage 1 at 0 s: writer tp1 ×2 on GPU 0–1, judge tp2 ×1 on GPU 2–3; ends after")
    assert "when writer has finished; loading takes 10 s" in first
    assert why == "Because."
    assert beside.startswith("judge beside writer: ")
    assert "judge +1 on GPU 0–1" in second
    assert gpu_time.startswith("GPU time: ")


def test_shares_of_gpu_time_add_up() -> None:
    some = ensemble()
    plan = min_heuristic(some, drawn(some))
    line = explain(some, plan, simulate_plan(some, plan, drawn(some)))[-1]
    shares = [int(word) for word in line.split() if word.isdigit()]
    assert len(shares) == 4
    assert 98 <= sum(shares) <= 102


def test_a_simple_plan_that_is_as_good_is_said() -> None:
    some = ensemble(llms=1)
    draws = [drawn(some, seed) for seed in range(2)]
    plans = [max_heuristic(some, draws[0]), greedy(some, draws[0])]
    best, second = rank(some, plans, draws)
    assert best.plan.planner == "max-heuristic", "equal plans keep their order"
    assert best.explanation[0] == "No planner found anything better than this simple plan."
    assert second.explanation[0].startswith("As fast as max-heuristic")
    best, _ = rank(some, plans[::-1], draws)
    assert best.explanation[0].startswith("max-heuristic is within 1 %")


def test_equal_plans_are_ranked_by_loads() -> None:
    some = ensemble(llms=2, requests=2)
    one = Stage((Placement("llm0", 1, 1, (0,)), Placement("llm1", 1, 1, (1,))), ("llm0", "llm1"))
    more = Stage((Placement("llm0", 1, 1, (0,)), Placement("llm1", 1, 2, (1, 2))), ("llm0", "llm1"))
    plans = [Plan(planner="more", stages=(more,)), Plan(planner="one", stages=(one,))]
    candidates = rank(some, plans, [drawn(some, most=2)])
    assert [c.plan.planner for c in candidates] == ["one", "more"]
    assert [c.loads for c in candidates] == [2, 3]
