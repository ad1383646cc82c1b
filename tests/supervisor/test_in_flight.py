"""How many requests an engine is given at a time: what it sustains, and it never runs dry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import Tape, candidate_of, table_of

from samullm_tui.domain.event import RequestFinished
from samullm_tui.domain.plan import Placement, Replica
from samullm_tui.engines.protocol import EngineStats, GenerateRequest
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.supervisor.in_flight import LEAST, MOST, InFlight
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.texts import Texts

SECONDS = {"constant_s": 0.02, "per_sequence_s": 4e-4, "per_token_s": 1e-4}
LATENCY = IterationLatency(tuple(SECONDS.get(name, 0.0) for name in COEFFICIENTS))
A0 = Placement("a", 1, 1, (0,))


def after(flow: InFlight, samples: int, sent: int, running: int, waiting: int) -> int:
    for _ in range(samples):
        flow.after(sent, EngineStats(running=running, waiting=waiting))
    return flow.capacity


def test_an_engine_that_runs_all_it_is_given_is_given_more() -> None:
    assert after(InFlight(64), 2, 64, 64, 0) == 128, "more only once it is full again"
    assert after(InFlight(64), 1, 60, 60, 0) == 64, "there was nothing more to give"
    assert after(InFlight(MOST), 1, MOST, MOST, 0) == MOST


def test_where_more_wait_than_run_fewer_are_given_but_twice_those_that_run() -> None:
    assert after(InFlight(512), 2, 512, 40, 472) == 512, (
        "a new engine takes its first requests in over many steps"
    )
    assert after(InFlight(512), 3, 512, 40, 472) == 80
    assert after(InFlight(512), 9, 512, 256, 256) == 512
    assert after(InFlight(64), 3, 64, 1, 63) == LEAST


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=50))
def test_it_never_falls_below_what_runs(samples: list[tuple[int, int]]) -> None:
    flow = InFlight(256)
    for running, waiting in samples:
        before = flow.capacity
        flow.after(before, EngineStats(running=running, waiting=waiting))
        assert flow.capacity >= min(before, 2 * running, MOST)
        assert flow.capacity >= LEAST


def run(config: EngineConfig, max_in_flight: int, *, watched: bool) -> tuple[float, int]:
    """When the last of 1,500 requests ends, and how many the engine is given at a time then."""
    table = table_of("a", [("a", ())] * 1500)
    lengths = np.random.default_rng(1).integers(50, 150, len(table))
    state = RunningState(candidate_of(([A0], "a")), Ledger(table, np.full(len(table), 100), {}, []))
    tape, replica = Tape(), Replica("a", (0,))
    engine: list[SimulatedEngine] = []
    capacity = 0

    def make(_: Replica) -> SimulatedEngine:
        engine.append(SimulatedEngine(replica, config, LATENCY, 5.0, max_in_flight=max_in_flight))
        return engine[0]

    def request(index: int, key: int, prompt_tokens: int, _: Callable[[int], str]) -> GenerateRequest:
        return GenerateRequest(key=key, prompt_tokens=prompt_tokens, output_tokens=int(lengths[index]))

    async def watch(runner: Runner) -> None:
        nonlocal capacity
        while True:
            await asyncio.sleep(1.0)
            if engine and runner.state.engines["a.0"].status == "serving":
                runner.observe(replica, await engine[0].stats())
                capacity = state.ledger.lanes.of["a.0"].capacity

    async def main() -> None:
        runner = Runner(
            state,
            make_engine=make,
            make_request=request,
            texts=Texts(state.ledger, None, {}),  # type: ignore[arg-type]  # nothing was committed before
            recorder=tape,
            clock=asyncio.get_running_loop().time,
            rng=np.random.default_rng(1),
        )
        watching = asyncio.create_task(watch(runner)) if watched else None
        await runner.run()
        if watching:
            watching.cancel()

    run_scaled(main(), inf)
    return max(event.at_s for event in tape.of(RequestFinished)), capacity


def test_an_engine_that_could_run_more_than_it_was_given_ends_earlier() -> None:
    config = EngineConfig(512, 8192, 40_000, 16, 4096)
    small, _ = run(config, 64, watched=False)
    adapted, capacity = run(config, 64, watched=True)
    assert capacity >= 512
    assert adapted < 0.7 * small


def test_an_engine_with_little_memory_is_given_less_and_is_not_slower() -> None:
    config = EngineConfig(256, 8192, 401, 16, 4096)  # room for some 60 requests
    full, _ = run(config, 512, watched=False)
    adapted, capacity = run(config, 512, watched=True)
    assert capacity < 160
    assert adapted == pytest.approx(full, rel=0.01)
