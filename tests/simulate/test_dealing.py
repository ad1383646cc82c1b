"""Promises of dealing requests over the replicas of an LLM."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import LAYOUTS, draw_application, make_problem, make_table

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate import dealing
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel, simulate_plan
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.dealing import Rates, deal, done_s, rates_of
from samullm_tui.simulate.problem import EngineState, Progress

REPLICAS = 4
WHOLE = Plan(planner="test", stages=(Stage((Placement("A", 1, REPLICAS, tuple(range(REPLICAS))),), ("A",)),))
STEP_S, SEQUENCE_S, TOKEN_S = 0.02, 4e-4, 1e-4
SECONDS = {"constant_s": STEP_S, "per_sequence_s": SEQUENCE_S, "per_token_s": TOKEN_S}
SHAPE = ShapeModel(
    1,
    IterationLatency(tuple(SECONDS.get(name, 0.0) for name in COEFFICIENTS)),
    5.0,
    EngineConfig(64, 2048, 4000, 16, 4096),
)


def chains(rng: np.random.Generator, count: int) -> tuple[Problem, np.ndarray]:
    """Chains of 1 to 30 steps on one LLM, and lengths drawn around what is expected."""
    steps = np.minimum(30, np.ceil(rng.lognormal(1.8, 0.7, count))).astype(int)
    group = np.repeat(np.arange(count), steps)
    first = np.concatenate([[True], group[1:] != group[:-1]])
    parents = [[] if alone else [i - 1] for i, alone in enumerate(first)]
    prompt = rng.integers(50, 800, len(group))
    table = make_table([0] * len(group), prompt.tolist(), parents, group=group.tolist(), names=("A",))
    problem = Problem(
        table,
        (LLMModel("A", (SHAPE,), 1e9),),
        REPLICAS,
        ((0, 1, 2, 3),),
        expected=np.full(len(group), 60),
    )
    return problem, rng.integers(1, 120, len(group))


def dealt(problem: Problem, output: np.ndarray, stage: Stage = WHOLE.stages[0]) -> np.ndarray:
    fresh = Progress.fresh(problem)
    return deal(problem, output, fresh, stage.replicas, {}, fresh.left(problem), 0.0)


@given(draw_application(), st.sampled_from(LAYOUTS))
def test_a_unit_is_on_one_replica_and_the_same_question_has_the_same_answer(application, layout) -> None:
    problem, output = application
    stage = Stage(layout, ())
    first = dealt(problem, np.array(output), stage)
    served = np.isin(problem.table.llm, [problem.index(r.llm) for r in stage.replicas])
    assert ((first >= 0) == served).all()
    for unit in np.unique(problem.units[served]):
        assert len(set(first[problem.units == unit].tolist())) == 1
    assert first.tolist() == dealt(problem, np.array(output), stage).tolist()


def test_chains_are_dealt_without_a_look_at_the_lengths_that_were_drawn() -> None:
    rng = np.random.default_rng(0)
    problem, output = chains(rng, 30)
    chained = problem.chained
    assert chained.any()
    places = dealt(problem, output)[chained]
    assert places.tolist() == dealt(problem, rng.permutation(output))[chained].tolist()


def test_without_lengths_to_expect_chains_are_dealt_by_their_steps() -> None:
    problem, output = chains(np.random.default_rng(1), 12)
    steps = np.bincount(problem.table.group)
    longest = np.argsort(-steps, kind="stable")[:REPLICAS]
    places = dealt(replace(problem, expected=None), output)
    assert len({int(places[problem.table.group == chain][0]) for chain in longest}) == REPLICAS


def test_chains_end_earlier_than_when_they_are_dealt_by_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [chains(np.random.default_rng(seed), 16 + 4 * (seed % 5)) for seed in range(30)]
    ours = [simulate_plan(problem, WHOLE, output).makespan_s - SHAPE.load_s for problem, output in cases]
    monkeypatch.setattr(dealing, "rates_of", lambda *_: Rates(0.0, 1.0, 1.0, 1.0))
    tokens = [simulate_plan(problem, WHOLE, output).makespan_s - SHAPE.load_s for problem, output in cases]
    assert np.mean(ours) < 0.98 * np.mean(tokens)
    assert np.mean(np.array(ours) <= np.array(tokens)) > 0.6


def test_rates_are_those_of_the_engine_s_steps() -> None:
    rates = rates_of(SHAPE, 100.0, 200.0)
    assert rates.batch == 64
    assert rates.step_s == pytest.approx(STEP_S)
    assert rates.decode_s == pytest.approx(SEQUENCE_S + TOKEN_S)
    full_s = STEP_S + 64 * (SEQUENCE_S + TOKEN_S)
    assert done_s(*rates, 0, 6400, 0) == pytest.approx(100 * full_s)
    assert done_s(*rates, 0, 6400, 300) == pytest.approx(300 * STEP_S + 6400 * (SEQUENCE_S + TOKEN_S))


def test_requests_on_their_own_are_balanced_by_their_work() -> None:
    n = 400
    table = make_table([0] * n, [9] * n, names=("A",))
    output = np.random.default_rng(3).integers(1, 50, n)
    places = dealt(make_problem(table), output)
    work = np.bincount(places, output)
    assert work.max() - work.min() <= 2 * output.max()


def state_with(assigned: list[int], clock_s: float = 0.0) -> EngineState:
    none = np.zeros(0, np.int64)
    return EngineState(clock_s, none, none, none, none, np.array(assigned, np.int64), none, clock_s)


def test_what_no_kept_replica_has_is_dealt_and_what_one_has_stays() -> None:
    n = 400
    problem = make_problem(make_table([0] * n, [9] * n, names=("A",)))
    output = np.random.default_rng(3).integers(1, 50, n)
    replicas = WHOLE.stages[0].replicas
    # The first has a hundred already, and is done with them when the others are with theirs.
    engines = {replica: state_with(list(range(100)) if k == 0 else []) for k, replica in enumerate(replicas)}
    progress = replace(Progress.fresh(problem), engines=engines)
    places = deal(problem, output, progress, replicas, engines, progress.left(problem), 0.0)
    assert (places[:100] == 0).all()
    work = np.bincount(places, output)
    assert work.max() - work.min() <= 2 * output.max()


def test_a_kept_replica_that_still_loads_gets_less() -> None:
    n = 400
    problem = make_problem(make_table([0] * n, [9] * n, names=("A",)))
    output = np.full(n, 20)
    replicas = WHOLE.stages[0].replicas
    engines = {
        replica: state_with([], 100.0 + (2.0 if k == 0 else 0.0)) for k, replica in enumerate(replicas)
    }
    progress = replace(Progress.fresh(problem), engines=engines)
    places = deal(problem, output, progress, replicas, engines, progress.left(problem), 100.0)
    counts = np.bincount(places, minlength=REPLICAS)
    assert counts.sum() == n
    assert counts[0] < counts[1:].min() - 2
