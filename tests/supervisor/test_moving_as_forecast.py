"""A run whose requests move to another engine takes as long as its forecast, which keeps the tokens they have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from scripted_engine import Tape, candidate_of, table_of

from samullm_tui.domain.event import RequestFinished, RequestRetried
from samullm_tui.domain.plan import Placement
from samullm_tui.engines.protocol import GenerateRequest
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.application import simulate_plan
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.problem import LLMModel, Problem, ShapeModel
from samullm_tui.supervisor.begun import BegunAnswers
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.texts import Texts

SECONDS = {"constant_s": 0.02, "per_sequence_s": 4e-4, "per_token_s": 1e-4}
LATENCY = IterationLatency(tuple(SECONDS.get(name, 0.0) for name in COEFFICIENTS))
SHAPE = ShapeModel(1, LATENCY, 5.0, EngineConfig(32, 2048, 4000, 16, 4096))
A0, B1, B0 = Placement("a", 1, 1, (0,)), Placement("b", 1, 1, (1,)), Placement("b", 1, 1, (0,))
PLAN = candidate_of(([A0, B1], "a"), ([B0], "b"))
"""`b` is in the middle of its requests when it moves to another GPU."""


def run(problem: Problem, lengths: np.ndarray) -> Tape:
    """In virtual time, on engines that are the forecast's models."""
    table, tape = problem.table, Tape()
    state = RunningState(PLAN, Ledger(table, problem.expected_tokens, {}, []))

    def request(index: int, key: int, prompt_tokens: int, _: Callable[[int], str]) -> GenerateRequest:
        return GenerateRequest(key=key, prompt_tokens=prompt_tokens, output_tokens=int(lengths[index]))

    async def main() -> None:
        await Runner(
            state,
            make_engine=lambda replica: SimulatedEngine(replica, SHAPE.config, LATENCY, SHAPE.load_s),
            make_request=request,
            texts=Texts(state.ledger, None, {}),  # type: ignore[arg-type]  # nothing was committed before
            recorder=tape,
            clock=asyncio.get_running_loop().time,
            rng=np.random.default_rng(1),
        ).run()

    run_scaled(main(), inf)
    return tape


def end_s(tape: Tape) -> float:
    return max(event.at_s for event in tape.of(RequestFinished))


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_moves_requests_ends_when_its_forecast_does(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of("ab", [*[("a", ())] * 40, *[("b", ())] * 90])
    lengths = np.random.default_rng(seed).integers(200, 900, len(table))
    llms = tuple(LLMModel(name, (SHAPE,), 1e9) for name in "ab")
    problem = Problem(table, llms, 2, ((0, 1),), expected=np.full(len(table), 500))
    forecast = simulate_plan(problem, PLAN.plan, lengths)
    tape = run(problem, lengths)
    moved = tape.of(RequestRetried)
    assert len([event for event in moved if event.kept_tokens]) == 32  # type: ignore[attr-defined]
    assert end_s(tape) == pytest.approx(forecast.makespan_s, rel=0.01)
    assert [row.output_tokens for row in sorted(tape.outputs, key=lambda r: int(r.id))] == lengths.tolist()

    monkeypatch.setattr(BegunAnswers, "keep", lambda *_: None)
    assert end_s(run(problem, lengths)) > 1.03 * forecast.makespan_s
