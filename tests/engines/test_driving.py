"""Driving an engine with loads: each request is sent as designed, and a death is told with its cause."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from samullm_tui.domain.errors import EngineError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.driving import drive
from samullm_tui.engines.load_design import Ask, Load
from samullm_tui.engines.protocol import Completion, GenerateRequest
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.config import EngineConfig

CONFIG = EngineConfig(
    max_num_seqs=8, max_num_batched_tokens=256, kv_blocks=65, block_size=16, max_model_len=512
)
LOADS = (
    Load("one", ((Ask(30, 4),),)),
    Load("mixed", ((Ask(10, 3), Ask(20, 2)), (Ask(5, 6),))),
)


class Recording(SimulatedEngine):
    """A simulated engine that remembers what it was asked."""

    def __init__(self, step_s: float) -> None:
        latency = IterationLatency((step_s, *[0.0] * (len(COEFFICIENTS) - 1)))
        super().__init__(Replica("x", (0,)), CONFIG, latency, 0.0)
        self.asked: list[GenerateRequest] = []

    async def generate(self, request: GenerateRequest) -> Completion:
        self.asked.append(request)
        return await super().generate(request)


async def test_every_request_of_every_load_is_sent_once_and_exactly_as_long() -> None:
    engine = Recording(1e-4)
    await engine.start()
    assert await drive(engine, LOADS, 512, np.random.default_rng(0)) == len(LOADS)
    sent = sorted((len(request.token_ids), request.sampling["max_tokens"]) for request in engine.asked)
    asked = [ask for load in LOADS for stream in load.streams for ask in stream]
    assert sent == sorted((ask.prompt_tokens, ask.output_tokens) for ask in asked)
    assert all(request.sampling["ignore_eos"] for request in engine.asked)
    ids = {token for request in engine.asked for token in request.token_ids}
    assert min(ids) >= 51
    assert max(ids) < 461, "special tokens at both ends of the vocabulary are spared"
    prompts = [request.token_ids for request in engine.asked]
    assert len(set(prompts)) == len(prompts), "nothing for the prefix cache"


async def test_loads_go_round_until_the_time_is_up_and_the_last_is_given_up() -> None:
    engine = Recording(1e-4)
    await engine.start()
    assert await drive(engine, LOADS, 512, np.random.default_rng(0), for_s=1.0) > len(LOADS)
    assert (await engine.stats()).running == 0, "nothing is left behind"


async def test_an_engine_that_dies_is_an_error_with_its_cause() -> None:
    engine = Recording(10.0)
    await engine.start()
    driving = asyncio.create_task(drive(engine, LOADS, 512, np.random.default_rng(0)))
    while not engine.asked:  # noqa: ASYNC110  # the engine sets no event
        await asyncio.sleep(0)
    engine.fail("out of memory")
    with pytest.raises(EngineError, match="out of memory"):
        await driving
