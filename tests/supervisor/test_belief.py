"""A run looked at in its middle: what is simulated from there is what the run then does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from benchmarks.simulated_runs import Case, Run, engine_stats, run_case
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.engines.protocol import EngineStats
from samullm_tui.forecast.problem import ForecastInputs
from samullm_tui.lengths.distribution import LengthDistribution, from_samples
from samullm_tui.lengths.draw import cap
from samullm_tui.planner.reschedule import Situation, forecast_rest
from samullm_tui.simulate.problem import Problem
from samullm_tui.supervisor.belief import situation

sys.path.insert(0, str(Path(__file__).parents[1] / "planner"))
from planning_problems import SmallNode, ensemble, model, problem, summary

PLACES = {
    "ensemble": Plan(
        planner="given",
        stages=(
            Stage((Placement("llm0", 1, 2, (0, 1)), Placement("llm1", 1, 2, (2, 3))), ("llm0",)),
            Stage((Placement("llm1", 1, 2, (2, 3)), Placement("llm2", 2, 1, (0, 1))), ("llm1", "llm2")),
        ),
    ),
    "summary": Plan(
        planner="given",
        stages=(
            Stage((Placement("writer", 1, 2, (0, 1)), Placement("judge", 2, 1, (2, 3))), ("writer",)),
            Stage((Placement("judge", 2, 2, (2, 3, 0, 1)),), ("judge",)),
        ),
    ),
}


BESIDE = Plan(
    planner="given",
    stages=(
        Stage((Placement("llm0", 1, 2, (0, 1)), Placement("llm1", 1, 1, (2,))), ("llm0",)),
        Stage((Placement("llm1", 1, 1, (2,)), Placement("llm2", 1, 3, (0, 1, 3))), ("llm1", "llm2")),
    ),
)


MOVES = Plan(
    planner="given",
    stages=(
        Stage((Placement("llm0", 1, 2, (0, 1)), Placement("llm1", 1, 2, (2, 3))), ("llm0",)),
        Stage((Placement("llm1", 1, 2, (0, 1)), Placement("llm2", 1, 2, (2, 3))), ("llm1", "llm2")),
    ),
)
"""`llm1` is in the middle of its requests when it changes its GPUs."""


def alone(requests: int = 900) -> tuple[Problem, Plan]:
    """One LLM on four GPUs, with room for every prompt."""
    llm = model("llm0", kv_blocks=2000)
    plan = Plan(planner="given", stages=(Stage((Placement("llm0", 1, 4, (0, 1, 2, 3)),), ("llm0",)),))
    return problem([llm], [SmallNode("llm0", requests // 10) for _ in range(10)]), plan


def dists_of(some: Problem, mean: float = 60.0) -> dict[str, LengthDistribution]:
    lengths = np.random.default_rng(0).lognormal(np.log(mean), 0.6, 2000).astype(int) + 1
    return {name: from_samples(name, lengths, source="test") for name in some.table.llm_names}


def case_of(some: Problem, *, longer: float = 1.0, slower: float = 1.0, seed: int = 3) -> Case:
    """True lengths drawn from what is believed, times `longer`; true steps and loads take `slower` times as long."""
    context = np.array([llm.shapes[0].config.max_model_len for llm in some.llms])
    dists = dists_of(some)
    rng = np.random.default_rng(seed)
    table = some.table
    drawn = np.rint(dists[table.llm_names[0]].sample(len(table), rng) * longer).astype(np.int64)
    lengths = cap(table, np.where(table.known_tokens >= 0, table.known_tokens, drawn), context)
    return Case(some, dists, context, lengths, slowed(some, slower))


def slowed(some: Problem, slower: float):
    return tuple(
        structs.replace(
            llm,
            shapes=tuple(
                structs.replace(
                    shape,
                    latency=structs.replace(
                        shape.latency, coefficients=tuple(slower * c for c in shape.latency.coefficients)
                    ),
                    load_s=slower * shape.load_s,
                )
                for shape in llm.shapes
            ),
        )
        for llm in some.llms
    )


def inputs_of(case: Case) -> ForecastInputs:
    return ForecastInputs(case.problem, case.dists, case.context, {})


def looked_at(
    case: Case,
    plan: Plan,
    times_s: tuple[float, ...],
    tell: Callable[[EngineStats], EngineStats] = lambda s: s,
    draws: int = 4,
) -> tuple[float, list[Situation], Run]:
    """The makespan, how the run stood at these times, and the run. Engines are read every second."""
    found: list[Situation] = []
    runs: list[Run] = []

    async def look(run: Run) -> None:
        runs.append(run)
        stats = {name: tell(one) for name, one in (await engine_stats(run)).items()}
        if round(run.now_s) in times_s:
            rng = np.random.default_rng(1)
            found.append(situation(inputs_of(case), run.state, stats, run.now_s, rng, draws=draws))
        else:
            for name, one in stats.items():
                replica = run.state.engines[name].replica
                run.state.watch.read(replica, one, run.now_s, run.state.ledger)

    end_s = run_case(case, plan, look)
    assert len(found) == len(times_s), f"the run ended at {end_s:.0f} s"
    return end_s, found, runs[0]


def truly(seen: Situation, lengths: IntArray) -> Situation:
    """With the true lengths as the only draw."""
    done, generated = seen.progress.done, seen.progress.generated
    # Of what ends with the step under way the engine tells no more how much it has: that is estimated.
    assert np.mean(generated[~done] <= lengths[~done]) > 0.95
    return replace(seen, draws=(np.where(done, generated, np.maximum(lengths, generated + 1)),))


def with_options(some: Problem, **options: object) -> Problem:
    return some.with_llms(
        tuple(
            structs.replace(
                llm,
                shapes=tuple(
                    structs.replace(shape, config=structs.replace(shape.config, **options))  # type: ignore[arg-type]
                    for shape in llm.shapes
                ),
            )
            for llm in some.llms
        )
    )


# --- the situation ---

APPLICATIONS = {"ensemble": ensemble(requests=300), "summary": summary()}
SYNCHRONOUS: dict[str, object] = {}
AS_VLLM: dict[str, object] = {"async_scheduling": True, "prefix_caching": True}
SHORT_OF_MEMORY: dict[str, object] = {"kv_blocks": 40}


@pytest.mark.parametrize("options", [SYNCHRONOUS, AS_VLLM, SHORT_OF_MEMORY], ids=["plain", "vllm", "short"])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_rest_simulated_with_the_true_lengths_ends_when_the_run_does(
    name: str, options: dict[str, object]
) -> None:
    case = case_of(with_options(APPLICATIONS[name], **options))
    whole_s = run_case(case, PLACES[name])
    times_s = tuple(sorted({round(share * whole_s) for share in (0.05, 0.2, 0.4, 0.6, 0.8)} - {0}))
    end_s, seen, _ = looked_at(case, PLACES[name], times_s)
    for one in seen:
        exact = replace(truly(one, case.lengths), problem=case.problem)
        (rest_s,) = forecast_rest(exact)
        # Without memory to spare another order preempts others; the forecast of the whole is as far off.
        near = 0.05 if options is SHORT_OF_MEMORY else 0.015
        assert rest_s == pytest.approx(end_s, rel=near), f"at {one.at_s:.0f} s"
        (rest_s,) = forecast_rest(truly(one, case.lengths))
        assert rest_s == pytest.approx(end_s, rel=near + 0.02), f"at {one.at_s:.0f} s, latencies as observed"


def test_requests_that_move_keep_their_tokens_and_go_on_first() -> None:
    case = case_of(ensemble(llms=3, requests=300))
    end_s, seen, run = looked_at(case, MOVES, (20, 29, 37, 50))
    waiting = []
    for one in seen:
        begun = np.flatnonzero(~one.progress.done & (one.progress.generated > 0))
        on_engines = [r for state in one.progress.engines.values() for r in (*state.running, *state.waiting)]
        waiting.append(len(np.setdiff1d(begun, on_engines)))
        (rest_s,) = forecast_rest(replace(truly(one, case.lengths), problem=case.problem))
        assert rest_s == pytest.approx(end_s, rel=0.02), f"at {one.at_s:.0f} s"
    assert waiting[1] > 15, "its new engines load"
    assert waiting[2] < 5, "they serve"
    assert len(run.state.begun) == 0, "everything has ended"


def test_a_situation_says_what_is_done_what_runs_and_what_is_left_of_the_plan() -> None:
    case = case_of(APPLICATIONS["ensemble"])
    end_s, (early, late), _ = looked_at(case, PLACES["ensemble"], (3, 60))
    assert early.stages == PLACES["ensemble"].stages
    assert early.running == set(PLACES["ensemble"].stages[0].replicas)
    assert {state.clock_s for state in early.progress.engines.values()} == {5.0, 6.0}, "they load"
    assert early.at_s == 3.0
    assert not early.progress.done.any()
    assert late.progress.done.any()
    assert (late.progress.generated[late.progress.done] == case.lengths[late.progress.done]).all()
    assert (late.progress.finish_s[late.progress.done] <= 60).all()
    assert np.isnan(late.progress.finish_s[~late.progress.done]).all()
    assert late.progress.engines.keys() == late.running
    assert late.at_s < end_s


def test_draws_go_on_from_the_tokens_so_far_within_all_caps() -> None:
    some = APPLICATIONS["ensemble"]
    rng = np.random.default_rng(0)
    known = np.where(rng.random(len(some.table)) < 0.3, rng.integers(1, 90, len(some.table)), -1)
    table = replace(some.table, known_tokens=known, max_tokens=np.full(len(some.table), 100))
    case = case_of(replace(some, table=table), longer=1.5)
    _, seen, _ = looked_at(case, PLACES["ensemble"], (10, 20, 40))
    for one in seen:
        open_ = ~one.progress.done
        begun = open_ & (one.progress.generated > 0)
        assert begun.any()
        assert len({draw.tobytes() for draw in one.draws}) == len(one.draws) == 4
        for draw in one.draws:
            assert (draw[open_] > one.progress.generated[open_]).all()
            assert (draw[open_] <= 100).all()
            assert (draw[one.progress.done] == case.lengths[one.progress.done]).all()
            drawn = begun & (known < 0)
            assert np.mean(draw[drawn] == one.progress.generated[drawn] + 1) < 0.15, "given that they go on"
            of_known = open_ & (known >= 0)
            assert (draw[of_known] == known[of_known]).all()


def test_requests_that_wait_for_another_engine_keep_their_tokens() -> None:
    plan = Plan(
        planner="given",
        stages=(
            Stage((Placement("llm0", 1, 2, (0, 1)), Placement("llm1", 1, 2, (2, 3))), ("llm0",)),
            Stage((Placement("llm1", 2, 2, (0, 1, 2, 3)),), ("llm1",)),
        ),
    )
    case = case_of(ensemble(llms=2, requests=150))
    found: list[Situation] = []

    async def look(run: Run) -> None:
        stats = await engine_stats(run)
        seen = situation(inputs_of(case), run.state, stats, run.now_s, np.random.default_rng(1))
        if run.state.stage == 1 and not stats and run.state.ledger.unfinished["llm1"]:
            found.append(seen)

    end_s = run_case(case, plan, look)
    moved = found[-1].progress
    assert not any(len(state.running) for state in moved.engines.values())
    assert (moved.generated[~moved.done] > 0).sum() > 10, "the requests of two engines that ran"
    (rest_s,) = forecast_rest(replace(truly(found[-1], case.lengths), problem=case.problem))
    assert rest_s == pytest.approx(end_s, rel=0.03)


def test_failed_requests_are_over_without_a_token_and_lost_gpus_are_not_used() -> None:
    case = case_of(APPLICATIONS["ensemble"])
    seen: list[Situation] = []

    async def look(run: Run) -> None:
        if not seen and run.now_s > 20:
            waiting = next(i for i in range(len(case.lengths)) if run.state.ledger.is_open(i) and i > 700)
            copy = replace(run.state, quarantined={3: "in use"})
            copy.ledger.status[waiting], before = 4, copy.ledger.status[waiting]
            seen.append(
                situation(inputs_of(case), copy, await engine_stats(run), run.now_s, np.random.default_rng(1))
            )
            copy.ledger.status[waiting] = before
            assert seen[0].progress.done[waiting]
            assert seen[0].progress.generated[waiting] == 0
            assert all(draw[waiting] == 0 for draw in seen[0].draws)

    run_case(case, PLACES["ensemble"], look)
    assert seen[0].unusable == {3}


# --- lengths ---


def mean_drawn(seen: Situation) -> float:
    """Of requests that had not begun."""
    fresh = ~seen.progress.done & (seen.progress.generated == 0)
    return float(np.mean([draw[fresh].mean() for draw in seen.draws]))


@pytest.mark.parametrize("longer", [0.6, 1.8])
def test_lengths_come_to_what_they_really_are(longer: float) -> None:
    some, plan = alone()
    case = case_of(some, longer=longer)
    _, (before, after), _ = looked_at(case, plan, (2, 18))
    true_mean = float(case.lengths.mean())
    assert mean_drawn(before) == pytest.approx(case.dists["llm0"].mean, rel=0.1), "nothing was seen yet"
    assert mean_drawn(after) == pytest.approx(true_mean, rel=0.12)


def test_answers_that_still_run_count_or_the_short_ones_would_be_all() -> None:
    some, plan = alone()
    case = case_of(some, longer=1.8)
    # The first batch is half done: what ended by now is short.
    _, (seen,), _ = looked_at(case, plan, (12,))
    ended = case.lengths[seen.progress.done]
    assert len(ended) > 10
    assert ended.mean() < 0.75 * case.lengths.mean()
    assert mean_drawn(seen) > 1.15 * ended.mean()


def test_the_later_draws_say_how_little_is_known_of_the_lengths() -> None:
    some, plan = alone()
    _, (before, after), _ = looked_at(case_of(some), plan, (2, 18), draws=16)

    def spread(seen: Situation, some: slice) -> float:
        """Of the draws' mean lengths, over that of as many independent lengths."""
        fresh = ~seen.progress.done & (seen.progress.generated == 0)
        draws = np.array([draw[fresh] for draw in seen.draws[some]])
        return float(draws.mean(axis=1).std(ddof=1) / (draws.std() / np.sqrt(fresh.sum())))

    expected, possible = slice(0, 8), slice(8, 16)
    assert spread(before, expected) < 2.0
    assert spread(before, possible) > 3.0
    assert spread(after, possible) < 0.7 * spread(before, possible)


# --- speeds ---


@pytest.mark.parametrize("slower", [0.8, 1.3])
def test_models_are_corrected_by_the_steps_and_loads_that_were_seen(slower: float) -> None:
    some = ensemble(llms=3, requests=300)
    case = case_of(some, slower=slower)
    end_s, (early, late), _ = looked_at(case, BESIDE, (20, 40 if slower < 1 else 65))
    for seen, expected, near in ((early, (slower, slower, 1.0), 0.05), (late, (slower,) * 3, 0.03)):
        for llm, before, factor in zip(seen.problem.llms, some.llms, expected, strict=True):
            for shape, was in zip(llm.shapes, before.shapes, strict=True):
                step = (8, 0, 0.0, 8, 800.0)
                ratio = shape.latency.seconds(*step) / was.latency.seconds(*step)
                assert ratio == pytest.approx(factor, rel=near), f"{llm.name} tp {shape.tp}"
                assert shape.load_s == pytest.approx(factor * was.load_s)
    (rest_s,) = forecast_rest(truly(late, case.lengths))
    (blind_s,) = forecast_rest(replace(truly(late, case.lengths), problem=some))
    assert rest_s == pytest.approx(end_s, rel=0.02)
    assert blind_s != pytest.approx(end_s, rel=0.05)


# --- tokens so far, of engines that do not tell them ---


def test_tokens_are_estimated_from_the_steps_since_a_request_began() -> None:
    """Read once a second, which are 44 steps here: within 7 tokens on average, and 12 of engines that do not count their
    steps. Answers have 75.
    """
    errors = {}
    for counts_steps in (True, False):
        some, plan = alone()
        case = case_of(some)
        found: list[np.ndarray] = []

        async def look(run: Run, counts: bool = counts_steps, found: list[np.ndarray] = found) -> None:
            for name, one in (await engine_stats(run)).items():
                state, told = run.state, one.generated or {}
                said = one if counts else structs.replace(one, steps_total=0)
                state.watch.read(state.engines[name].replica, said, run.now_s, state.ledger)
                sent = np.array(list(state.ledger.lanes.of[name].sent), np.int64)
                serials = [state.ledger.in_flight[k].serial for k in sent.tolist()]
                known = np.array([serial in told for serial in serials], np.bool_)
                true = np.array([told.get(serial, 0) for serial in serials], np.int64)
                guess = state.watch.generated(name, sent)
                found.append((guess - true)[known & (true > 0)])

        run_case(case, plan, look)
        errors[counts_steps] = np.abs(np.concatenate(found)).mean()
    assert errors[True] < 7
    assert errors[False] < 12
