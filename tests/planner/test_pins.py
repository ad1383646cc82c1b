"""What-if pins: every planner keeps them, and what cannot be kept is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from planning_problems import SmallNode, drawn, ensemble, model, problem, problems, summary

from samullm_tui.domain.errors import PlacementError, PlanError
from samullm_tui.domain.pin import Pin
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.graph import llm_graph
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.pins import broken_pins, check_pins, pin_words, wrong_pins
from samullm_tui.planner.search import search
from samullm_tui.planner.shapes import check_fits
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.application import Problem, simulate_plan


def quick_search(some: Problem, lengths: IntArray) -> Plan:
    return search(some, lengths, np.random.default_rng(0), requests=5 * len(some.table))


PLANNERS = (quick_search, greedy, min_heuristic, max_heuristic)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pinned(some: Problem, **pins: Pin) -> Problem:
    return replace(some, pins=pins)


@st.composite
def pins(draw: st.DrawFn, gpus: int) -> Pin:
    some_gpus = st.frozensets(st.integers(0, gpus - 1), max_size=gpus)
    return Pin(
        tp=draw(st.sampled_from([None, None, 1, 2])),
        dp=draw(st.sampled_from([None, None, 1, 2])),
        gpus=draw(some_gpus),
        no_tp=draw(st.frozensets(st.sampled_from([1, 2]), max_size=1)),
        no_dp=draw(st.frozensets(st.integers(1, 4), max_size=2)),
        no_gpus=draw(st.frozensets(st.integers(0, gpus - 1), max_size=1)),
    )


@QUICK
@given(problems(), st.data())
def test_sizes_and_gpus_are_kept_by_every_planner(some: Problem, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(some.table.llm_names), min_size=1, max_size=2, unique=True))
    asked = pinned(some, **{name: data.draw(pins(some.gpus)) for name in names})
    assume(not wrong_pins(asked))
    try:
        check_fits(asked, llm_graph(asked.table).units)
    except PlacementError:
        reject()  # LLMs that feed each other may not fit together with their pins
    for planner in PLANNERS:
        plan = planner(asked, drawn(asked))
        assert broken_pins(asked, plan) == []
        assert valid(asked, plan) == []
        assert not np.isnan(simulate_plan(asked, plan, drawn(asked, 1)).finish_s).any()


@QUICK
@given(problems(), st.data())
def test_an_llm_pinned_to_a_stage_starts_there_or_is_said_not_to(some: Problem, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(some.table.llm_names))
    stage = data.draw(st.integers(1, 4))
    asked = pinned(some, **{name: Pin(stage=stage)})
    for planner in PLANNERS:
        plan = planner(asked, drawn(asked))
        starts = [k for k, s in enumerate(plan.stages, 1) if name in {p.llm for p in s.placements}]
        late = bool(starts) and starts[0] > stage
        assert bool(broken_pins(asked, plan)) == late, "never early, unless nothing else is left to start"
        assert not np.isnan(simulate_plan(asked, plan, drawn(asked, 1)).finish_s).any()


@pytest.mark.parametrize("planner", PLANNERS)
def test_an_llm_can_be_made_to_start_first_or_later(planner) -> None:  # type: ignore[no-untyped-def]
    some = ensemble(llms=4, gpus=2)
    for stage in (1, 2):
        asked = pinned(some, llm3=Pin(stage=stage))
        plan = planner(asked, drawn(some))
        first = next(k for k, s in enumerate(plan.stages, 1) if "llm3" in {p.llm for p in s.placements})
        assert first == stage or broken_pins(asked, plan)
        if planner is not quick_search or stage == 1:
            assert first == stage


def test_where_nothing_else_is_left_a_pinned_llm_starts_earlier() -> None:
    some = ensemble(llms=2, gpus=4)
    asked = pinned(some, llm1=Pin(stage=9))
    for planner in PLANNERS:
        plan = planner(asked, drawn(some))
        assert broken_pins(asked, plan) == []
        assert {p.llm for p in plan.stages[0].placements} == {"llm0"}
        assert len(plan.stages) < 9


@pytest.mark.parametrize(
    ("pins", "said"),
    [
        ({"poet": Pin(tp=1)}, ["pin poet: is no LLM"]),
        ({"writer": Pin(tp=8)}, ["tp 8 is not possible here; tp 1, 2"]),
        ({"writer": Pin(no_tp=frozenset({1, 2}))}, ["every tp is forbidden"]),
        ({"writer": Pin(dp=5)}, ["dp 5 is not possible; dp 1 to 4 at tp 1"]),
        ({"writer": Pin(tp=2, gpus=frozenset({1, 2}))}, ["no 2 GPUs of GPU 1–2 are in one island"]),
        ({"writer": Pin(no_gpus=frozenset(range(4)))}, ["no GPU is left for it"]),
        ({"judge": Pin(stage=1), "writer": Pin(stage=2)}, ["takes outputs of writer, pinned to stage 2"]),
        (
            {"writer": Pin(tp=4, dp=9, gpus=frozenset({2, 7})), "poet": Pin()},
            ["GPU 7 is not in the cluster", "tp 4 is not possible", "dp 9 is not possible", "poet"],
        ),
    ],
)
def test_every_impossible_pin_is_named_at_once(pins: dict[str, Pin], said: list[str]) -> None:
    with pytest.raises(PlanError) as caught:
        check_pins(pinned(summary(), **pins))
    for words in said:
        assert words in str(caught.value)


def test_a_plan_against_a_pin_is_not_valid() -> None:
    llms = [model("x"), model("y")]
    some = problem(llms, [SmallNode("x"), SmallNode("y")], gpus=4)
    stages = (Stage((Placement("x", 1, 1, (0,)), Placement("y", 2, 1, (2, 3))), ("x", "y")),)
    plan = Plan(planner="test", stages=stages)
    assert valid(some, plan) == []
    for pin in (Pin(tp=2), Pin(dp=2), Pin(gpus=frozenset({1})), Pin(no_gpus=frozenset({0})), Pin(stage=2)):
        (said,) = valid(pinned(some, x=pin), plan)
        assert "x" in said
    assert valid(pinned(some, x=Pin(tp=1, dp=1, gpus=frozenset({0}), stage=1)), plan) == []


def test_pins_in_words() -> None:
    pin = Pin(tp=2, dp=4, gpus=frozenset(range(4)), stage=1, no_tp=frozenset({1}), no_gpus=frozenset({7}))
    assert pin_words("x", pin) == (
        *("x tp 2", "x ×4", "x only on GPU 0–3", "x starts in stage 1", "x not at tp 1", "x not on GPU 7"),
    )
