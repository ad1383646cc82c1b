"""The simulated engine answers when the simulation of the whole says so, whatever comes in meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from samullm_tui.domain.errors import EngineError, EngineStartError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import (
    Begun,
    Completion,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
)
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.engine import EngineConfig, simulate_requests

T = TypeVar("T")
CONFIG = EngineConfig(
    max_num_seqs=4, max_num_batched_tokens=64, kv_blocks=24, block_size=16, max_model_len=256
)
COSTS = {"constant_s": 0.01, "per_sequence_s": 0.001, "per_token_s": 0.0003, "per_decode_context_s": 1e-6}
LATENCY = IterationLatency(tuple(COSTS.get(name, 0.0) for name in COEFFICIENTS))
LOAD_S = 30.0


def make() -> SimulatedEngine:
    return SimulatedEngine(Replica("a", (0,)), CONFIG, LATENCY, LOAD_S)


def asked(prompt_tokens: int, output_tokens: int | None, **sampling: object) -> GenerateRequest:
    return GenerateRequest(key=0, prompt_tokens=prompt_tokens, output_tokens=output_tokens, sampling=sampling)


def with_engine(main: Callable[[SimulatedEngine], Awaitable[T]]) -> T:
    async def run() -> T:
        engine = make()
        await engine.start()
        return await main(engine)

    return run_scaled(run(), math.inf)


def now() -> float:
    return asyncio.get_running_loop().time()


requests = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(1, 100), st.integers(1, 100)),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[0],  # asyncio gives no order to timers of one time
)


@settings(max_examples=60, deadline=None)
@given(requests)
def test_each_answer_comes_at_the_second_the_whole_simulation_gives(
    rows: list[tuple[int, int, int]],
) -> None:
    rows.sort(key=lambda row: row[0])
    arrival_s = [LOAD_S + row[0] / 1000.0 for row in rows]

    async def main(engine: SimulatedEngine) -> list[float]:
        async def one(at_s: float, prompt: int, output: int) -> float:
            loop = asyncio.get_running_loop()
            arrived = loop.create_future()
            loop.call_at(at_s, arrived.set_result, None)
            await arrived
            completion = await engine.generate(asked(prompt, output))
            assert completion.output_tokens == output
            return now()

        return await asyncio.gather(
            *(one(at_s, row[1], row[2]) for at_s, row in zip(arrival_s, rows, strict=True))
        )

    _, prompt, output = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    trace = simulate_requests(CONFIG, LATENCY, np.array(arrival_s), prompt, output)
    # Steps are summed in other portions: the last bits may differ.
    assert with_engine(main) == pytest.approx(trace.finish_s.tolist(), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=10), st.data())
def test_looking_at_the_statistics_changes_nothing(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    every_s = data.draw(st.sampled_from([0.003, 0.01, 0.1]))

    async def served(engine: SimulatedEngine, *, look: bool) -> list[float]:
        async def watch() -> None:
            while True:
                stats = await engine.stats()
                assert 0 <= stats.running <= CONFIG.max_num_seqs
                await asyncio.sleep(every_s)

        async def one(prompt: int, output: int) -> float:
            await engine.generate(asked(prompt, output))
            return now()

        watching = asyncio.create_task(watch()) if look else None
        ends = await asyncio.gather(*(one(*row) for row in rows))
        if watching is not None:
            watching.cancel()
        return ends

    unwatched = with_engine(lambda e: served(e, look=False))
    assert with_engine(lambda e: served(e, look=True)) == pytest.approx(unwatched, rel=1e-12)


def test_the_start_takes_the_load_time() -> None:
    async def main() -> tuple[float, int | None, float]:
        started = await make().start()
        return started.load_s, started.kv_blocks, now()

    assert run_scaled(main(), math.inf) == (LOAD_S, CONFIG.kv_blocks, LOAD_S)


def test_statistics_are_of_the_present_not_of_the_look_ahead() -> None:
    async def main(engine: SimulatedEngine) -> None:
        requests = [replace(asked(10, 50), key=key) for key in range(6)]
        jobs = [asyncio.create_task(engine.generate(request)) for request in requests]
        await asyncio.sleep(0.1)
        stats = await engine.stats()
        assert (stats.running, stats.waiting) == (4, 2)
        assert 0 < stats.output_tokens_total < 6 * 50
        assert stats.generated is not None
        assert sum(stats.generated.values()) == stats.output_tokens_total
        assert sorted(tokens > 0 for tokens in stats.generated.values()) == [False] * 2 + [True] * 4
        # All four prompts were computed in the first step, which gave the first tokens.
        assert stats.prefill_tokens_total == 4 * 10
        assert stats.steps_total == max(stats.generated.values())
        assert stats.kv_usage is not None
        assert 0.0 < stats.kv_usage <= 1.0
        await asyncio.gather(*jobs)
        stats = await engine.stats()
        assert (stats.running, stats.waiting, stats.output_tokens_total, stats.kv_usage) == (0, 0, 300, 0.0)

    with_engine(main)


def test_a_cancelled_request_makes_room_for_the_others() -> None:
    async def main(engine: SimulatedEngine) -> None:
        long = [asyncio.create_task(engine.generate(asked(10, 200))) for _ in range(4)]
        short = asyncio.create_task(engine.generate(asked(10, 2)))
        await asyncio.sleep(0.05)
        assert (await engine.stats()).waiting == 1
        for job in long:
            job.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        before_s = now()
        assert (await short).output_tokens == 2
        assert now() - before_s < 0.2
        assert (await engine.stats()).running == 0

    with_engine(main)


@pytest.mark.parametrize(
    ("request_", "reason", "tokens"),
    [
        (asked(10, 20), "stop", 20),
        (asked(10, 20, max_tokens=21), "stop", 20),
        (asked(10, 20, max_tokens=20), "length", 20),
        (asked(10, 20, max_tokens=5), "length", 5),
        (asked(250, 20), "length", 6),
    ],
)
def test_the_answer_ends_as_a_real_one_would(request_: GenerateRequest, reason: str, tokens: int) -> None:
    completion = with_engine(lambda engine: engine.generate(request_))
    assert (completion.finish_reason, completion.output_tokens, completion.text) == (reason, tokens, "")


@pytest.mark.parametrize("request_", [asked(256, 1), asked(10, None), asked(10, 5, max_tokens=0)])
def test_what_no_engine_would_take_is_refused(request_: GenerateRequest) -> None:
    with pytest.raises(RequestRefusedError):
        with_engine(lambda engine: engine.generate(request_))


def test_a_failure_ends_what_is_in_flight_and_is_told_with_its_cause() -> None:
    async def main(engine: SimulatedEngine) -> str:
        failed = asyncio.create_task(engine.failed())
        jobs = [asyncio.create_task(engine.generate(asked(10, 50))) for _ in range(6)]
        await asyncio.sleep(0.1)
        engine.fail("out of memory")
        for job in jobs:
            with pytest.raises(EngineError, match="out of memory"):
                await job
        with pytest.raises(EngineError, match="out of memory"):
            await engine.generate(asked(1, 1))
        with pytest.raises(EngineError, match="out of memory"):
            await engine.stats()
        return await failed

    assert with_engine(main) == "out of memory"


def test_a_failure_while_loading_is_a_failed_start() -> None:
    async def main() -> float:
        engine = make()
        asyncio.get_running_loop().call_later(10.0, engine.fail, "no memory")
        with pytest.raises(EngineStartError, match="no memory"):
            await engine.start()
        return now()

    assert run_scaled(main(), math.inf) == 10.0


def test_a_stop_ends_what_is_in_flight_and_is_no_failure() -> None:
    async def main(engine: SimulatedEngine) -> None:
        failed = asyncio.create_task(engine.failed())
        job = asyncio.create_task(engine.generate(asked(10, 50)))
        await asyncio.sleep(0.1)
        await engine.stop()
        await engine.stop()
        with pytest.raises(EngineError, match="stopped"):
            await job
        await asyncio.sleep(1000.0)
        assert not failed.done()
        failed.cancel()

    with_engine(main)


def test_it_serves_on_an_ordinary_loop_too() -> None:
    async def main() -> int:
        engine = SimulatedEngine(Replica("a", (0,)), CONFIG, LATENCY, 0.01)
        await engine.start()
        return sum(
            c.output_tokens for c in await asyncio.gather(*(engine.generate(asked(5, 5)) for _ in range(9)))
        )

    assert asyncio.run(main()) == 45


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=10), st.integers(0, 1500)
)
def test_a_stop_gives_back_the_tokens_and_another_engine_adds_only_the_others(
    rows: list[tuple[int, int]], after_ms: int
) -> None:
    async def main(engine: SimulatedEngine) -> None:
        jobs = [asyncio.create_task(engine.generate(asked(*row))) for row in rows]
        await asyncio.sleep(after_ms / 1000)
        made = (await engine.stats()).output_tokens_total
        await engine.stop()
        ends = await asyncio.gather(*jobs, return_exceptions=True)
        kept = sum(e.begun.output_tokens for e in ends if isinstance(e, PartialAnswerError))
        assert kept + sum(e.output_tokens for e in ends if isinstance(e, Completion)) == made
        other = make()
        await other.start()
        for (prompt, output), end in zip(rows, ends, strict=True):
            if isinstance(end, PartialAnswerError):
                assert 0 < end.begun.output_tokens < output
                before_s = now()
                request = replace(asked(prompt, output), begun=end.begun)
                completion = await other.generate(request)
                assert (completion.output_tokens, completion.pieces) == (output, 2)
                left = output - end.begun.output_tokens
                alone = simulate_requests(
                    CONFIG,
                    LATENCY,
                    np.zeros(1),
                    np.array([prompt + end.begun.output_tokens]),
                    np.array([left]),
                )
                assert now() - before_s == pytest.approx(alone.finish_s[0])
            elif isinstance(end, EngineError):
                assert "stopped" in str(end)
            else:
                assert end.output_tokens == output  # type: ignore[union-attr]
        added = [
            out - e.begun.output_tokens
            for (_, out), e in zip(rows, ends, strict=True)
            if isinstance(e, PartialAnswerError)
        ]
        assert (await other.stats()).output_tokens_total == sum(added)

    with_engine(main)


def test_what_an_engine_added_nothing_to_is_no_further_piece() -> None:
    async def main(engine: SimulatedEngine) -> None:
        begun = Begun(output_tokens=7, pieces=2)
        job = asyncio.create_task(engine.generate(replace(asked(10, 20), begun=begun)))
        await asyncio.sleep(0)
        await engine.stop()
        with pytest.raises(EngineError) as stopped:
            await job
        assert not isinstance(stopped.value, PartialAnswerError)

    with_engine(main)
