"""Sends designed loads to an engine, and notices when it dies of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, cycle

import numpy as np

from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.engines.load_design import Ask, Load
from samullm_tui.engines.protocol import Engine, GenerateRequest

__all__ = ["drive"]

CAUSE_S = 5.0
"""How long after a failed request an engine may take to be found dead, so that its cause can be told."""
SPARED_IDS = 0.1
"""Share of the vocabulary, at each of its ends, that no prompt uses: special tokens are there."""


async def drive(
    engine: Engine, loads: Sequence[Load], vocab: int, rng: np.random.Generator, *, for_s: float | None = None
) -> int:
    """Sends the loads one after another: once, or over and over until `for_s` is up (the last one is given up).

    Returns how many it finished. Raises EngineError, with the cause when the engine died.
    """
    failed = asyncio.create_task(engine.failed())
    sending = asyncio.create_task(_send_all(engine, loads, _Prompts(vocab, rng), for_s))
    try:
        await asyncio.wait({failed, sending}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and sending.exception() is not None:
            await asyncio.wait({failed}, timeout=CAUSE_S)
        if failed.done():
            raise EngineError(Problem(engine.replica.name, "", failed.result()))
        return sending.result()
    finally:
        failed.cancel()
        sending.cancel()
        await asyncio.wait({failed, sending})


async def _send_all(engine: Engine, loads: Sequence[Load], prompts: _Prompts, for_s: float | None) -> int:
    finished = 0
    try:
        async with asyncio.timeout(for_s):
            for load in loads if for_s is None else cycle(loads):
                await asyncio.gather(*(_send(engine, stream, prompts) for stream in load.streams))
                finished += 1
    except TimeoutError:
        pass  # The time is up: the steps of the load that was under way count as well.
    return finished


async def _send(engine: Engine, stream: Sequence[Ask], prompts: _Prompts) -> None:
    for ask in stream:
        await engine.generate(prompts.request(ask))


class _Prompts:
    """Prompts of random tokens: no two begin alike, so that the prefix cache holds none of them."""

    def __init__(self, vocab: int, rng: np.random.Generator) -> None:
        self._first, self._last = int(vocab * SPARED_IDS), max(1, int(vocab * (1 - SPARED_IDS)))
        self._rng = rng
        self._keys = count()

    def request(self, ask: Ask) -> GenerateRequest:
        ids = self._rng.integers(self._first, self._last, ask.prompt_tokens)
        sampling = {"max_tokens": ask.output_tokens, "ignore_eos": True, "temperature": 1.0}
        return GenerateRequest(
            key=next(self._keys),
            token_ids=tuple(ids.tolist()),
            sampling=sampling,
            prompt_tokens=ask.prompt_tokens,
            output_tokens=ask.output_tokens,
        )
