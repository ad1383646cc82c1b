"""The decision in the middle of a run: staying is simulated truly, a change is possible, whole, and worth its costs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from planning_problems import SmallNode, drawn, ensemble, model, problem, problems, summary
from situations import given_progress, situation_after

from samullm_tui.domain.pin import Pin
from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.baselines import max_heuristic, min_heuristic
from samullm_tui.planner.greedy import greedy
from samullm_tui.planner.reschedule import Margin, Option, Situation, Verdict, forecast_rest, reconsider
from samullm_tui.planner.situation import rest_of
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.application import Problem, simulate_plan

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PLANNERS = st.sampled_from([greedy, min_heuristic, max_heuristic])
FEW = 40_000
ALWAYS = Margin(least_s=0.0, share=0.0, confidence=0.0, load_share=0.0)


def decided(situation: Situation, seed: int = 0, margin: Margin = ALWAYS) -> Verdict:
    return reconsider(situation, np.random.default_rng(seed), margin=margin, requests=FEW)


def ends(situation: Situation, option: Option) -> list[float]:
    """Simulated with the application as it is, nothing left out of it: on the first draws, or those that confirm."""
    plan = Plan(planner="", stages=option.stages)
    known = [
        simulate_plan(situation.problem, plan, draw, situation.beginning).makespan_s
        for draw in situation.draws
    ]
    count = len(option.ends_s)
    first, last = known[:count], known[-count:]
    return first if option.ends_s[0] == pytest.approx(first[0]) else last


def gain_s(stay: Option, other: Option) -> float:
    return float(np.mean(np.array(stay.ends_s) - np.array(other.ends_s)))


@QUICK
@given(problems(), PLANNERS, st.integers(0, 5), st.data())
def test_going_on_with_the_same_lengths_is_exactly_the_plan(
    some: Problem, planner: object, seed: int, data: st.DataObject
) -> None:
    lengths = drawn(some, seed)
    plan = planner(some, lengths)  # type: ignore[operator]
    stages = data.draw(st.integers(0, len(plan.stages)))
    now = situation_after(some, plan, lengths, stages)
    whole = simulate_plan(some, plan, lengths).makespan_s
    assert forecast_rest(now) == (pytest.approx(whole, abs=1e-9),)
    assert decided(now).options[0].ends_s == (pytest.approx(whole, abs=1e-9),)


@QUICK
@given(problems(), PLANNERS, st.integers(0, 5), st.data())
def test_every_option_is_possible_whole_and_ends_when_it_says(
    some: Problem, planner: object, seed: int, data: st.DataObject
) -> None:
    truth, *draws = (drawn(some, seed + k) for k in range(4))
    plan = planner(some, draws[0])  # type: ignore[operator]
    stages = data.draw(st.integers(0, len(plan.stages) - 1))
    now = situation_after(some, plan, truth, stages, draws)
    verdict = decided(now)
    stay, *others = verdict.options
    assert stay.what == "stay"
    count, known = len(stay.ends_s), forecast_rest(now)
    assert stay.ends_s in (known[:count], known[-count:])
    assert len({option.stages[0].replicas for option in others}) == len(others), (
        "they begin in different ways"
    )
    assert [o.mean_s for o in others] == sorted(o.mean_s for o in others)
    for option in others:
        assert len(option.ends_s) == len(stay.ends_s)
        assert valid(some, Plan(planner="", stages=option.stages), now.progress.done) == []
        assert list(option.ends_s) == pytest.approx(ends(now, option), abs=1e-9)
    assert gain_s(stay, verdict.options[verdict.chosen]) >= 0
    assert decided(now) == verdict, "the same for the same draws of chance"


@QUICK
@given(problems(), st.integers(0, 5), st.data())
def test_what_runs_and_stays_where_it_is_is_not_loaded_again(
    some: Problem, seed: int, data: st.DataObject
) -> None:
    lengths = drawn(some, seed)
    plan = greedy(some, lengths)
    now = situation_after(some, plan, lengths, data.draw(st.integers(0, len(plan.stages) - 1)))
    for option in decided(now).options:
        running, loads = now.running, 0
        for planned in option.planned:
            if planned.end_s > planned.start_s:
                loads += len(set(planned.stage.replicas) - running)
                running = frozenset(planned.stage.replicas)
        assert option.loads == loads
        new = [r for r in option.stages[0].replicas if r not in now.running]
        load_s = [some.llms[some.index(r.llm)].shape(r.tp).load_s for r in new]
        assert option.cost_s == max(load_s, default=0.0)
        kept = {(r.llm, r.gpus) for r in option.stages[0].replicas} & {(r.llm, r.gpus) for r in now.running}
        first = {(s.llm, s.gpus): s for s in reversed(option.spans)}
        assert all(first[key].ready_s == now.at_s for key in kept if option.planned[0].end_s > now.at_s)


@QUICK
@given(problems(), st.integers(0, 5), st.sampled_from([0.0, 0.3, 1.0, 20.0]), st.sampled_from([0.0, 60.0]))
def test_nothing_changes_within_the_margin(some: Problem, seed: int, least_s: float, since_s: float) -> None:
    truth, *draws = (drawn(some, seed + k) for k in range(4))
    now = replace(
        situation_after(some, min_heuristic(some, draws[0]), truth, 1, draws), since_switch_s=since_s
    )
    margin = Margin(least_s=least_s, share=1.0, confidence=0.8, load_share=0.5, settle_s=120.0)
    verdict = decided(now, margin=margin)
    stay, chosen = verdict.options[0], verdict.options[verdict.chosen]
    if verdict.chosen:
        needed_s = (least_s + 0.5 * chosen.cost_s) * (2.0 - since_s / 120.0)
        assert gain_s(stay, chosen) > needed_s
        sooner = [a > b for a, b in zip(stay.ends_s, chosen.ends_s, strict=True)]
        assert sum(sooner) >= 0.8 * len(sooner)
        assert verdict.gain_s == pytest.approx(gain_s(stay, chosen))


def busy_and_idle(seed: int = 0) -> Situation:
    """`b` turns out far longer than planned, and the GPU of the finished `a` stands free."""
    some = problem(
        [model("a", tps=(1,), load_s=2.0), model("b", tps=(1,), load_s=2.0)],
        [SmallNode("a", 5), SmallNode("b", 200)],
        gpus=2,
        island=1,
    )
    stages = (Stage((Placement("a", 1, 1, (0,)), Placement("b", 1, 1, (1,))), ("a", "b")),)
    draws = [drawn(some, seed + k) for k in range(3)]
    first = Plan(planner="", stages=(replace_until(stages[0], ("a",)), stages[0]))
    return situation_after(some, first, draws[0], 1, draws)


def replace_until(stage: Stage, until: tuple[str, ...]) -> Stage:
    return Stage(stage.placements, until)


def test_the_gpu_of_a_finished_llm_goes_to_one_that_gains_by_it() -> None:
    now = busy_and_idle()
    verdict = reconsider(now, np.random.default_rng(0), margin=Margin(least_s=1.0))
    stay, chosen = verdict.options[0], verdict.options[verdict.chosen]
    assert chosen.what == "b ×1 → ×2 on GPU 0"
    assert chosen.mean_s - now.at_s < 0.7 * (stay.mean_s - now.at_s)
    assert chosen.cost_s == 2.0
    assert (stay.loads, chosen.loads) == (0, 1), "what runs goes on"
    assert "saves" in verdict.why
    assert "2.0 s of loading" in verdict.why
    assert "3 of 3 draws" in verdict.why


def test_a_change_that_gains_only_on_the_draws_that_chose_it_is_not_made() -> None:
    now = busy_and_idle()
    almost_done = given_progress(now.progress, np.ones_like(now.draws[0]))
    margin = Margin(least_s=2.0, share=1.0)

    def chosen(draws: tuple[IntArray, ...]) -> Verdict:
        return decided(replace(now, draws=draws), margin=margin)

    lucky = now.draws[:2]
    assert chosen(lucky).chosen, "there is nothing to confirm it on"
    assert chosen(lucky * 3).chosen
    verdict = chosen((*lucky, *[almost_done] * 3))
    assert verdict.chosen == 0
    assert verdict.gain_s < 2.0
    assert "of 3 draws" in verdict.why


def test_right_after_a_change_more_is_asked_for() -> None:
    now = busy_and_idle()
    gain = decided(now).gain_s
    margin = Margin(least_s=gain / 1.5, share=1.0, load_share=0.0, settle_s=100.0)
    assert decided(replace(now, since_switch_s=math.inf), margin=margin).chosen == 1
    assert decided(replace(now, since_switch_s=90.0), margin=margin).chosen == 1
    assert decided(replace(now, since_switch_s=10.0), margin=margin).chosen == 0


def test_a_change_that_loads_long_must_gain_more() -> None:
    assert Margin().needed_s(1_000.0, 60.0, math.inf) > Margin().needed_s(1_000.0, 10.0, math.inf)
    assert Margin().needed_s(100.0, 0.0, math.inf) == pytest.approx(3.0), (
        "3 % of what is left is less than 10 s"
    )
    assert Margin().needed_s(1_000.0, 0.0, math.inf) == pytest.approx(10.0)


@QUICK
@given(problems(), st.integers(0, 3), st.sets(st.integers(0, 3), min_size=1, max_size=3))
def test_unusable_gpus_get_no_engine(some: Problem, seed: int, unusable: set[int]) -> None:
    truth, *draws = (drawn(some, seed + k) for k in range(3))
    plan = greedy(some, draws[0])
    now = replace(situation_after(some, plan, truth, 1, draws), unusable=frozenset(unusable))
    assume(now.unfinished)
    verdict = decided(now)
    for option in verdict.options:
        assert not any(unusable & set(p.gpus) for stage in option.stages for p in stage.placements)
    assert verdict.chosen or not math.isfinite(verdict.options[0].mean_s) or len(verdict.options) >= 1
    if not math.isfinite(verdict.options[0].mean_s):
        assert verdict.chosen == min(1, len(verdict.options) - 1), (
            "what can finish is better than what cannot"
        )


def test_an_llm_whose_engines_are_all_lost_is_served_elsewhere() -> None:
    now = replace(busy_and_idle(), unusable=frozenset({1}))
    verdict = reconsider(now, np.random.default_rng(0))
    assert forecast_rest(now) == (math.inf,) * 3
    assert verdict.chosen == 1
    assert verdict.options[1].stages[0].replicas == (Replica("b", (0,)),)
    assert "cannot finish" in verdict.why


def test_where_nothing_can_go_on_the_answer_is_to_stay() -> None:
    verdict = reconsider(replace(busy_and_idle(), unusable=frozenset({0, 1})), np.random.default_rng(0))
    assert (verdict.chosen, len(verdict.options)) == (0, 1)
    assert verdict.options[0].ends_s == (math.inf,) * 3
    assert "cannot" in verdict.why


def test_when_everything_is_done_nothing_is_left_to_decide() -> None:
    some = ensemble(2, 4)
    lengths = drawn(some)
    plan = greedy(some, lengths)
    now = situation_after(some, plan, lengths, len(plan.stages))
    verdict = decided(now)
    assert verdict.chosen == 0
    assert verdict.options[0].ends_s == (now.at_s,)


def test_the_end_of_a_load_is_waited_for_not_loaded_again() -> None:
    now = busy_and_idle()
    state = now.progress.engines[Replica("b", (1,))]
    late = replace(now.progress, engines={Replica("b", (1,)): state._replace(clock_s=now.at_s + 7.0)})
    waiting = replace(now, progress=late, running=frozenset({Replica("b", (1,))}))
    waited_s = np.array(forecast_rest(waiting)) - np.array(forecast_rest(now))
    assert waited_s == pytest.approx(7.0, abs=0.2)
    assert decided(waiting).options[0].loads == 0


def test_pins_are_kept_but_for_the_stage() -> None:
    now = busy_and_idle()
    pins = {"b": Pin(dp=1), "a": Pin(stage=3)}
    pinned = replace(now, problem=replace(now.problem, pins=pins))
    verdict = decided(pinned)
    assert all(p.dp == 1 for option in verdict.options for s in option.stages for p in s.placements)


def test_a_finished_chain_step_is_still_the_prompt_of_the_next() -> None:
    """What is left out of the application is nothing that open requests depend on."""
    some = summary()
    lengths = drawn(some, most=100)
    plan = greedy(some, lengths)
    for stages in range(len(plan.stages)):
        now = situation_after(some, plan, lengths, stages)
        assert forecast_rest(now) == (pytest.approx(simulate_plan(some, plan, lengths).makespan_s),)


def test_what_is_left_of_a_plan_is_what_the_run_would_do() -> None:
    a, b, c = Placement("a", 1, 2, (0, 1)), Placement("b", 1, 1, (2,)), Placement("c", 1, 2, (2, 3))
    stages = (Stage((a, b), ("a",)), Stage((c,), ("c",)))
    first, last = rest_of(stages, frozenset("abc"), frozenset({1, 2}))
    assert first == Stage((Placement("a", 1, 1, (0,)),), ("a",))
    assert last == Stage((Placement("c", 1, 1, (3,)),), ("c",))
    assert rest_of(stages, frozenset("bc"))[0] == Stage((b,), ("b",)), (
        "b is in no later stage: it is waited for"
    )
    assert rest_of(stages, frozenset("c")) == (stages[1],)


def test_lengths_given_progress_agree_with_it() -> None:
    now = busy_and_idle()
    done, generated = now.progress.done, now.progress.generated
    again = given_progress(now.progress, np.ones(len(done), np.int64))
    assert (again[done] == generated[done]).all()
    assert (again[~done] > generated[~done]).all()
