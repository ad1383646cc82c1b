"""Plans simulated on whole applications."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import structs
from plan_cases import (
    NAMES,
    draw_application,
    draw_cycles,
    draw_optional,
    draw_plan,
    make_problem,
    make_table,
    one_each,
)
from plan_reference import PlanReference
from schedule_cases import EXACT

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.simulate.application import PlanTrace, Problem, Progress, simulate_plan, simulate_stage
from samullm_tui.simulate.engine import simulate_requests

Application = tuple[Problem, list[int]]


def plan_of(*stages: Stage) -> Plan:
    return Plan(planner="test", stages=stages)


def simulated(problem: Problem, plan: Plan, output: list[int]) -> PlanTrace | None:
    try:
        return simulate_plan(problem, plan, np.array(output, np.int64))
    except PlanError:
        return None


@settings(max_examples=300, deadline=None)
@given(st.one_of(draw_application(), draw_cycles(), draw_optional()), draw_plan())
def test_a_plan_is_simulated_as_by_stepping_every_engine_in_time_order(app: Application, plan: Plan) -> None:
    problem, output = app
    trace = simulated(problem, plan, output)
    assume(trace is not None)
    expected = PlanReference(problem, output)
    expected.run(plan)
    assert list(trace.stage_times) == expected.times
    assert trace.finish_s.tolist() == expected.finish_s
    assert trace.makespan_s == expected.now


@settings(max_examples=300, deadline=None)
@given(draw_application(), draw_plan())
def test_what_holds_for_every_plan(app: Application, plan: Plan) -> None:
    problem, output = app
    trace = simulated(problem, plan, output)
    assume(trace is not None)
    table = problem.table
    assert np.isfinite(trace.finish_s).all()
    for child in range(len(table)):
        for parent in table.parents_of(child):
            later_s = trace.finish_s[child] - trace.finish_s[parent]
            assert later_s > 0 or (later_s == 0 and trace.refused)  # a refused request ends when it is ready
    assert trace.makespan_s == trace.finish_s.max()
    for one, two in combinations(trace.spans, 2):
        if set(one.gpus) & set(two.gpus):
            assert one.end_s <= two.start_s or two.end_s <= one.start_s
    assert all(s.start_s <= (s.ready_s or s.start_s) <= s.end_s <= trace.makespan_s for s in trace.spans)
    starts = [start for start, _ in trace.stage_times]
    assert starts[1:] == [end for _, end in trace.stage_times][:-1]
    assert len(trace.kept) == len(plan.stages)
    assert trace.loads == len(trace.spans)
    area_s = sum((s.end_s - s.start_s) * len(s.gpus) for s in trace.spans)
    overshoot_s = 4 * len(plan.stages) * len(problem.llms)
    assert trace.gpu_busy_s <= area_s + overshoot_s + 12 * len(trace.spans)
    again = simulate_plan(problem, plan, np.array(output, np.int64))
    assert again.finish_s.tolist() == trace.finish_s.tolist()
    assert again.spans == trace.spans


@settings(max_examples=100, deadline=None)
@given(draw_application())
def test_no_plan_beats_an_llm_alone_on_an_engine_with_all_its_requests_ready(app: Application) -> None:
    problem, output = app
    trace = simulate_plan(problem, plan_of(one_each(*NAMES)), np.array(output, np.int64))
    for llm in range(3):
        own = problem.table.llm == llm
        if own.any():
            # Without feeds prompts are shorter and nothing waits for another request; one sequence at a time is the
            # most that a step can lose to batching, so the sum of decode steps at full batch is a bound.
            steps = math.ceil(np.array(output)[own].sum() / 4)
            shape = problem.llms[llm].shape(1)
            assert trace.makespan_s >= shape.load_s + steps * EXACT.seconds(1, 0, 0.0, 1, 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), min_size=1, max_size=30), st.booleans())
def test_one_llm_on_one_replica_is_one_engine_after_its_load(
    sizes: list[tuple[int, int]], tight: bool
) -> None:
    prompt, output = (np.array(column, np.int64) for column in zip(*sizes, strict=True))
    problem = make_problem(make_table([0] * len(sizes), prompt.tolist(), names=("A",)), tight=tight)
    trace = simulate_plan(problem, plan_of(one_each("A")), output)
    shape = problem.llms[0].shape(1)
    alone = simulate_requests(shape.config, shape.latency, np.zeros(len(prompt)), prompt, output)
    assert trace.finish_s.tolist() == (alone.finish_s + shape.load_s).tolist()
    assert trace.makespan_s == alone.makespan_s + shape.load_s
    assert trace.gpu_busy_s == trace.makespan_s


@settings(max_examples=100, deadline=None)
@given(st.one_of(draw_application(), draw_optional()), st.data())
def test_stages_with_the_same_engines_change_nothing(app: Application, data: st.DataObject) -> None:
    """A stage boundary alone, all replicas kept, leaves every engine exactly where it was."""
    problem, output = app
    whole = one_each(*NAMES)
    cuts = data.draw(st.permutations(NAMES))
    cut = plan_of(*(Stage(whole.placements, (name,)) for name in cuts), whole)
    one = simulate_plan(problem, plan_of(whole), np.array(output, np.int64))
    many = simulate_plan(problem, cut, np.array(output, np.int64))
    assert many.finish_s.tolist() == one.finish_s.tolist()
    assert many.loads == one.loads == 3
    assert many.spans == one.spans
    ran = [
        kept for kept, (start_s, end_s) in zip(many.kept, many.stage_times, strict=True) if end_s > start_s
    ]
    assert all(all(stage) for stage in ran[1:])


def test_a_cycle_between_llms_is_followed() -> None:
    """A → B → A → C: every request waits for the one before it, and its prompt grows by what that produced."""
    table = make_table([0, 1, 0, 2], [5, 3, 2, 1], [[], [0], [1], [2]])
    problem = make_problem(table, load_s=0.0)
    trace = simulate_plan(problem, plan_of(one_each(*NAMES)), np.array([4, 5, 6, 2]))
    now_s = 0.0
    config = problem.llms[0].shape(1).config
    for prompt, output, finish_s in zip([5, 7, 7, 7], [4, 5, 6, 2], trace.finish_s, strict=True):
        alone = simulate_requests(config, EXACT, np.zeros(1), np.array([prompt]), np.array([output]))
        now_s += alone.makespan_s
        assert finish_s == now_s


def test_an_engine_does_not_run_ahead_of_what_comes_back_to_it() -> None:
    """A has a long request of its own; what it sent to B comes back meanwhile and is served beside it."""
    table = make_table([0, 0, 1, 0, 0, 1, 0], [5] * 7, [[], [], [1], [2], [], [4], [5]])
    problem = make_problem(table, load_s=0.0)
    trace = simulate_plan(problem, plan_of(one_each("A", "B")), np.array([90, 3, 3, 3, 9, 3, 3]))
    assert trace.finish_s[3] < trace.finish_s[6] < trace.finish_s[0]


def test_an_engine_that_feeds_what_is_waited_for_over_others_stops_with_the_stage() -> None:
    """A feeds B and B feeds C, but not what C waits for: A's long request is cut where C is done."""
    table = make_table([0, 1, 1, 2], [5, 5, 5, 5], [[], [0], [], [2]])
    problem = make_problem(table, load_s=0.0)
    stage = one_each("A", "B", "C", until=("C",))
    trace = simulate_stage(problem, np.array([90, 3, 3, 3]), Progress.fresh(problem), stage, frozenset(), 0.0)
    (a,) = (state for replica, state in trace.progress.engines.items() if replica.llm == "A")
    longest_step_s = problem.llms[0].shape(1).latency.seconds(1, 0, 0.0, 1, 95.0)
    assert trace.end_s <= a.clock_s <= trace.end_s + longest_step_s
    assert 3 < trace.progress.generated[0] < 20


def test_a_stopped_engine_loses_its_cache_and_keeps_its_tokens() -> None:
    table = make_table([0, 1], [10, 10])
    problem = make_problem(table)
    output = np.array([5, 100])
    stages = (one_each("A", "B", until=("A",)), Stage((Placement("B", 2, 1, (2, 3)),), ("B",)))
    trace = simulate_plan(problem, plan_of(*stages), output)
    first = simulate_stage(problem, output, Progress.fresh(problem), stages[0], frozenset(), 0.0)
    had = int(first.progress.generated[1])
    assert had == 5
    shape = problem.llms[1].shape(2)
    rest = simulate_requests(
        shape.config, shape.latency, np.zeros(1), np.array([10 + had]), np.array([100 - had])
    )
    assert trace.makespan_s == first.end_s + shape.load_s + rest.makespan_s
    assert trace.kept == ((False, False), (False,))
    assert trace.loads == 3


def test_preempted_requests_of_a_kept_engine_that_goes_by_priority_go_on() -> None:
    """B is not the first engine of the stage, and the end of A finds one of its requests preempted."""
    table = make_table([0, 1, 1, 1, 1, 2], [5, 9, 9, 9, 9, 5])
    problem = make_problem(table, tight=True)
    by_priority = [
        structs.replace(shape, config=structs.replace(shape.config, scheduling_policy="priority"))
        for shape in problem.llms[1].shapes
    ]
    llms = (problem.llms[0], structs.replace(problem.llms[1], shapes=tuple(by_priority)), problem.llms[2])
    problem = dataclasses.replace(problem, llms=llms, priority=np.array([0, 3, 2, 1, 0, 0]))
    output = [20, 40, 40, 40, 40, 9]
    stages = (one_each("A", "B", until=("A",)), one_each("C", "B"))
    first = simulate_stage(problem, np.array(output), Progress.fresh(problem), stages[0], frozenset(), 0.0)
    (b,) = (state for replica, state in first.progress.engines.items() if replica.llm == "B")
    assert len(b.waiting)
    trace = simulate_plan(problem, plan_of(*stages), np.array(output))
    expected = PlanReference(problem, output)
    expected.run(plan_of(*stages))
    assert trace.finish_s.tolist() == expected.finish_s


def test_a_stage_that_waits_for_nothing_does_not_take_place() -> None:
    problem = make_problem(make_table([0], [10]))
    stages = (one_each("A"), Stage((Placement("B", 2, 2, (0, 1, 2, 3)),), ("B",)), one_each("C"))
    trace = simulate_plan(problem, plan_of(*stages), np.array([5]))
    assert trace.stage_times[1:] == ((trace.makespan_s, trace.makespan_s),) * 2
    assert trace.loads == 1
    assert len(trace.spans) == 1


def test_simulating_a_stage_leaves_the_progress_before_it_as_it_was() -> None:
    problem = make_problem(make_table([0, 1, 0], [10, 10, 7]))
    output = np.array([5, 60, 9])
    first = simulate_stage(
        problem, output, Progress.fresh(problem), one_each("A", "B", until=("A",)), frozenset(), 0.0
    )
    before = first.progress.copy()
    results = [
        simulate_stage(problem, output, first.progress, one_each("A", "B"), first.replicas, first.end_s)
        for _ in range(2)
    ]
    assert results[0].progress.finish_s.tolist() == results[1].progress.finish_s.tolist()
    assert first.progress.generated.tolist() == before.generated.tolist()
    assert first.progress.done.tolist() == before.done.tolist()
    assert results[0].llm_finish_s.keys() == {"B"}
    assert results[0].end_s == results[0].llm_finish_s["B"]


def test_chains_stay_on_one_replica_and_work_is_balanced() -> None:
    chains, steps = 12, 5
    llm = [0] * chains * steps
    parents = [[i - 1] if i % steps else [] for i in range(len(llm))]
    group = [i // steps for i in range(len(llm))]
    problem = make_problem(make_table(llm, [9] * len(llm), parents, group=group, names=("A",)))
    output = np.full(len(llm), 6)
    one = simulate_plan(problem, plan_of(Stage((Placement("A", 1, 1, (0,)),), ("A",))), output)
    two = simulate_plan(problem, plan_of(Stage((Placement("A", 1, 2, (0, 1)),), ("A",))), output)
    four = simulate_plan(problem, plan_of(Stage((Placement("A", 1, 4, (0, 1, 2, 3)),), ("A",))), output)
    assert one.makespan_s - 2 > 1.6 * (two.makespan_s - 2) > 2.4 * (four.makespan_s - 2)
    stage = Stage((Placement("A", 1, 4, (0, 1, 2, 3)),), ("A",))
    part = simulate_stage(problem, output, Progress.fresh(problem), stage, frozenset(), 0.0)
    assert part.progress.finished


def test_a_prompt_that_leaves_no_room_ends_at_once_without_a_token() -> None:
    problem = make_problem(make_table([0, 1, 1], [100, 30, 5], [[], [0], [1]], names=("A", "B")))
    trace = simulate_plan(problem, plan_of(one_each("A", "B")), np.array([90, 5, 5]))
    assert trace.refused == 0
    problem = make_problem(make_table([0, 1, 1], [100, 119, 5], [[], [0], [1]], names=("A", "B")))
    trace = simulate_plan(problem, plan_of(one_each("A", "B")), np.array([15, 5, 5]))
    assert trace.refused == 1
    assert trace.finish_s[1] == trace.finish_s[0]
    assert trace.finish_s[2] > trace.finish_s[1]


BAD_STAGES = {
    "A has 1 request that never runs": (one_each("B", until=("A",)), "stage 1: A: 1 requests never finish"),
    "its source does not run": (one_each("C", until=("C",)), "stage 1: C: 1 requests never finish"),
    "unknown LLM": (one_each("A", until=("Z",)), "Z: is no LLM of the application; one of A, B, C"),
    "no such tp": (
        Stage((Placement("A", 4, 1, (0, 1, 2, 3)),), ("A",)),
        "cannot run at tp 4; possible: 1, 2",
    ),
    "no such GPU": (Stage((Placement("A", 1, 1, (4,)),), ("A",)), r"has GPUs \(4,\); GPUs 0 to 3"),
    "GPU twice": (Stage((Placement("A", 1, 1, (0,)), Placement("B", 1, 1, (0,))), ("A",)), "each GPU once"),
    "too few GPUs": (Stage((Placement("A", 2, 1, (0,)),), ("A",)), "has 1 GPUs for tp 2 × dp 1; 2"),
}


@pytest.mark.parametrize("case", BAD_STAGES)
def test_a_plan_that_cannot_be_says_what_is_wrong(case: str) -> None:
    stage, message = BAD_STAGES[case]
    problem = make_problem(make_table([0, 1, 2], [5, 5, 5], [[], [0], [1]]))
    with pytest.raises(PlanError, match=message):
        simulate_plan(problem, plan_of(stage, one_each(*NAMES)), np.array([3, 3, 3]))


def test_plans_that_finish_nothing_or_need_more_cache_are_refused() -> None:
    problem = make_problem(make_table([0], [5]))
    with pytest.raises(PlanError, match="there is no stage"):
        simulate_plan(problem, plan_of(), np.array([3]))
    with pytest.raises(PlanError, match="stage 1: A: 1 requests never finish"):
        simulate_plan(problem, plan_of(one_each("B")), np.array([3]))
    tight = make_problem(make_table([0], [5]), tight=True)
    small = type(tight)(
        tight.table,
        tuple(type(m)(m.name, (shrunk(m.shape(1)),), 1e9) for m in tight.llms),
        tight.gpus,
        tight.islands,
    )
    with pytest.raises(PlanError, match="larger than the KV cache"):
        simulate_plan(small, plan_of(one_each("A")), np.array([80]))


def shrunk(shape):
    config = type(shape.config)(4, 16, 11, 4, 120)
    return type(shape)(shape.tp, shape.latency, shape.load_s, config)
