"""The words of a plan say what its simulation said."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planning_problems import SmallNode, drawn, ensemble, model, problem, problems, summary

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.explain import explain
from samullm_tui.planner.gpu_time import gpu_times, whole
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.rank import rank
from samullm_tui.planner.runner_up import runner_ups, variants
from samullm_tui.planner.study import Study
from samullm_tui.planner.validity import valid
from samullm_tui.planner.words import duration, gpu_list, hundredths, joined
from samullm_tui.simulate.application import Problem, simulate_plan


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
    gpu_time, first, why, beside, time, second, _ = explain(some, plan, trace)
    assert first.startswith("Stage 1 at 0 s: writer tp1 ×2 on GPU 0–1, judge tp2 ×1 on GPU 2–3; ends after")
    assert "when writer has finished; loading takes 10 s" in first
    assert why == "Because."
    assert beside.startswith("judge beside writer: ")
    assert time.startswith("GPU time of stage 1: ")
    assert "judge +1 on GPU 0–1" in second
    assert gpu_time.startswith("GPU time: ")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems(), st.integers(0, 3), st.sampled_from([greedy, min_heuristic, max_heuristic]))
def test_all_gpu_time_is_accounted_for_once(
    some: Problem, seed: int, planner: Callable[[Problem, IntArray], Plan]
) -> None:
    plan = planner(some, drawn(some, seed + 10))
    trace = simulate_plan(some, plan, drawn(some, seed))
    times = gpu_times(some, trace)
    for (start_s, end_s), time in zip(trace.stage_times, times, strict=True):
        assert time.total == pytest.approx(some.gpus * (end_s - start_s), abs=1e-6)
        assert min(time.computing, time.loading, time.waiting, time.idle, time.empty) >= 0
    if trace.work and not some.table.parents.size:
        assert whole(times).waiting == pytest.approx(0, abs=1e-6), "nothing to wait for"
    said = explain(some, plan, trace)[0]
    assert sum(int(share) for share in re.findall(r"(\d+) %", said)) == 100


def test_waiting_for_a_source_is_told_from_having_no_work() -> None:
    """A judge beside a chain stands still until texts come; a writer on its own is idle when it has finished."""
    llms = [model("writer", tps=(1,), load_s=1.0), model("judge", tps=(1,), load_s=1.0)]
    some = problem(llms, [SmallNode("writer", 6, chain=True), SmallNode("judge", 6, sources=(0,))], gpus=2)
    lengths = np.where(some.table.llm == 0, 50, 2)
    both = (Placement("writer", 1, 1, (0,)), Placement("judge", 1, 1, (1,)))
    trace = simulate_plan(some, Plan(planner="test", stages=(Stage(both, ("judge",)),)), lengths)
    (time,) = gpu_times(some, trace)
    assert time.loading == pytest.approx(2.0)
    judging_s = trace.work[0][1].steps_s
    assert time.waiting == pytest.approx(trace.makespan_s - 1.0 - judging_s), "the judge, until the last text"
    writer_s = float(trace.finish_s[some.table.llm == 0].max())
    assert time.idle == pytest.approx(trace.makespan_s - writer_s), (
        "the writer, while the last text is judged"
    )


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6))
def test_shares_are_whole_percents_that_add_up(parts: list[float]) -> None:
    shares = hundredths(parts)
    assert sum(shares) == (100 if sum(parts) > 0 else 0)
    assert all(
        abs(share - 100 * part / sum(parts)) < 1 for share, part in zip(shares, parts, strict=True) if part
    )


def test_a_runner_up_is_a_valid_plan_with_one_decision_changed_and_its_cost_is_simulated() -> None:
    some = ensemble(llms=3, gpus=4)
    lengths = drawn(some)
    plan = max_heuristic(some, lengths)
    makespan_s = simulate_plan(some, plan, lengths).makespan_s
    tried = [list(islice(variants(some, plan, stage), 3)) for stage in range(len(plan.stages))]
    found = runner_ups(Study(some, [lengths]), plan, 0)
    assert set(found) == {0, 1, 2}
    for stage, best in found.items():
        assert all(valid(some, other) == [] and other != plan for _, other in tried[stage])
        ends_s = {what: simulate_plan(some, other, lengths).makespan_s for what, other in tried[stage]}
        assert ends_s[best.what] == best.makespan_s == min(ends_s.values())
        assert best.tried == len(ends_s)
    said = explain(some, plan, simulate_plan(some, plan, lengths), found)
    words = [line for line in said if line.startswith(("Runner-up", "As good"))]
    assert len(words) == 3
    if found[0].makespan_s > 1.01 * makespan_s:
        assert words[0].endswith("later.")


def test_runner_ups_stop_at_their_budget() -> None:
    some = ensemble(llms=3, gpus=4)
    study, plan = Study(some, [drawn(some)]), max_heuristic(some, drawn(some))
    assert len(runner_ups(study, plan, 0, requests=2 * len(some.table))) == 2
    assert runner_ups(study, plan, 0, requests=0) == {}


def test_a_simple_plan_that_is_as_good_is_said() -> None:
    some = ensemble(llms=1)
    draws = [drawn(some, seed) for seed in range(2)]
    plans = [max_heuristic(some, draws[0]), greedy(some, draws[0])]
    best, second = rank(Study(some, draws), plans).candidates
    assert best.plan.planner == "max-heuristic", "equal plans keep their order"
    assert best.explanation[0] == "No planner found anything better than this simple plan."
    assert second.explanation[0].startswith("As fast as max-heuristic")
    best, _ = rank(Study(some, draws), plans[::-1]).candidates
    assert best.explanation[0].startswith("max-heuristic is within 1 %")


def test_equal_plans_are_ranked_by_loads() -> None:
    some = ensemble(llms=2, requests=2)
    one = Stage((Placement("llm0", 1, 1, (0,)), Placement("llm1", 1, 1, (1,))), ("llm0", "llm1"))
    more = Stage((Placement("llm0", 1, 1, (0,)), Placement("llm1", 1, 2, (1, 2))), ("llm0", "llm1"))
    plans = [Plan(planner="more", stages=(more,)), Plan(planner="one", stages=(one,))]
    candidates = rank(Study(some, [drawn(some, most=2)]), plans).candidates
    assert [c.plan.planner for c in candidates] == ["one", "more"]
    assert [c.loads for c in candidates] == [2, 3]
