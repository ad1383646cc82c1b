"""The error of a forecast is split into what really caused it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as changed

from samullm_tui.domain.event import RequestRetried
from samullm_tui.hindsight.observed import observe
from samullm_tui.hindsight.pace import paces_of, with_loads, with_paces
from samullm_tui.hindsight.split import Split, lengths_of_run, split
from samullm_tui.simulate.application import Problem, simulate_plan
from tests.hindsight.recorded import PLAN, events_of
from tests.planner.planning_problems import SmallNode, drawn, model, problem

CONTEXT = np.full(2, 512)
PACES = {("a", 1): 1.3, ("b", 1): 0.8}
LOADS = {("a", 1): 31.0, ("b", 1): 4.0}


def forecast_problem() -> Problem:
    made = problem(
        [model("a", scale=1), model("b", scale=2)], [SmallNode("a", 60), SmallNode("b", 60, sources=(0,))]
    )
    return replace(made, expected=np.full(120, 30))


def split_of(truth: Problem, lengths: np.ndarray, delay_s: float = 0.0) -> tuple[Split, float, float]:
    """(the split, predicted, actual) of a run that went as `truth` says, and ended `delay_s` later."""
    planned = forecast_problem()
    predicted_s = simulate_plan(planned, PLAN, planned.expected_tokens).makespan_s
    events, end_s = events_of(truth, lengths)
    found = split(planned, CONTEXT, PLAN, [], observe(planned.table, events), predicted_s, end_s + delay_s)
    return found, predicted_s, end_s + delay_s


@pytest.mark.parametrize(
    ("paces", "loads", "delay_s"),
    [({}, {}, 0.0), (PACES, {}, 0.0), ({}, LOADS, 0.0), (PACES, LOADS, 7.0)],
    ids=["as-modelled", "pace", "loads", "all"],
)
def test_each_part_is_what_its_cause_changed(paces: dict, loads: dict, delay_s: float) -> None:  # type: ignore[type-arg]
    planned, lengths = forecast_problem(), drawn(forecast_problem(), most=90)
    truth = with_loads(with_paces(planned, paces), loads)
    found, predicted_s, actual_s = split_of(truth, lengths, delay_s)
    seconds = {part.source: part.seconds for part in found.parts}
    ends = [
        simulate_plan(one, PLAN, lengths).makespan_s for one in (planned, with_paces(planned, paces), truth)
    ]
    near = 0.005 * actual_s
    assert seconds["lengths"] == pytest.approx(ends[0] - predicted_s)
    assert seconds["latency"] == pytest.approx(ends[1] - ends[0], abs=near)
    assert seconds["loads"] == pytest.approx(ends[2] - ends[1], abs=near)
    assert seconds["dispatch"] == pytest.approx(delay_s, abs=near)
    assert sum(seconds.values()) == pytest.approx(actual_s - predicted_s)


@pytest.mark.parametrize("pace", [0.5, 0.97, 1.0, 1.4, 3.0])
def test_the_pace_of_engines_is_found_though_requests_queue_in_them(pace: float) -> None:
    planned = forecast_problem()
    events, _ = events_of(with_paces(planned, {("a", 1): pace}), drawn(planned))
    found = paces_of(planned, observe(planned.table, events))
    assert found["a", 1] == pytest.approx(pace, rel=0.01)
    assert found["b", 1] == pytest.approx(1.0, rel=0.01)


def test_a_shape_that_was_not_seen_is_as_its_llms_others_are() -> None:
    planned = forecast_problem()
    paced = with_loads(with_paces(planned, {("a", 1): 2.0}), {("a", 1): 30.0})
    before, after = planned.llms[0].shape(2), paced.llms[0].shape(2)
    assert after.latency.coefficients == tuple(2 * c for c in before.latency.coefficients)
    assert after.load_s == 3 * before.load_s
    assert paced.llms[1] == planned.llms[1]


def test_requests_without_an_answer_are_simulated_as_expected() -> None:
    planned = forecast_problem()
    events, _ = events_of(planned, drawn(planned))
    lengths = lengths_of_run(planned, CONTEXT, observe(planned.table, events[:40]))
    assert (lengths == 30).sum() >= 120 - 40
    assert len(np.unique(lengths)) > 5


def test_an_engine_that_worked_for_others_says_nothing_about_the_pace() -> None:
    planned = forecast_problem()
    events, _ = events_of(planned, drawn(planned))
    retried = RequestRetried(at_s=99.0, node="node0", id="0/1", replica="a.0", cause="not part of stage 2")
    observed = observe(planned.table, [*events, retried])
    assert observed.disturbed == {"a.0"}
    assert paces_of(planned, observed)["a", 1] == pytest.approx(1.0), (
        "it is the only one: better than nothing"
    )


def test_baselines_are_simulated_on_the_same_observed_values() -> None:
    planned, lengths = forecast_problem(), drawn(forecast_problem(), most=90)
    truth = with_paces(planned, PACES)
    found, _, _ = split_of(truth, lengths)
    assert [one.planner for one in found.others] != []
    assert {one.planner for one in found.others} == {"min-heuristic", "max-heuristic"}
    assert found.plan.makespan_s == pytest.approx(simulate_plan(truth, PLAN, lengths).makespan_s, rel=0.005)
    assert all(found.lower_bound_s <= one.makespan_s for one in (found.plan, *found.others))
    tokens = {one.llm: one.tokens for one in found.tokens}
    assert sum(tokens.values()) == lengths.sum()
    assert changed(found.tokens[0], tokens=0).expected_tokens == 60 * 30
