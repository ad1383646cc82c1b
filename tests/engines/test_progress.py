"""A stuck engine is told from a slow one and from an idle one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.engines.progress import until_stalled
from samullm_tui.engines.protocol import EngineStats
from samullm_tui.engines.virtual_time import run_scaled

STALL_S = 300.0


def stalled_at(tokens: Callable[[float], int], in_flight: Callable[[float], int]) -> float | None:
    """When an engine with these counts over time counts as stalled; None: not within a day."""

    async def main() -> float | None:
        loop = asyncio.get_running_loop()

        async def stats() -> EngineStats:
            count = tokens(loop.time())
            if count < 0:
                raise EngineError(Problem("", "", "no answer"))
            return EngineStats(running=1, waiting=0, output_tokens_total=count)

        try:
            async with asyncio.timeout(86_400.0):
                await until_stalled(stats, lambda: in_flight(loop.time()), STALL_S)
        except TimeoutError:
            return None
        return loop.time()

    return run_scaled(main(), math.inf)


def test_an_engine_that_generates_however_slowly_is_not_stuck() -> None:
    assert stalled_at(lambda now: int(now / 250.0), lambda _: 1) is None


def test_an_idle_engine_is_not_stuck() -> None:
    assert stalled_at(lambda _: 7, lambda _: 0) is None


def test_an_engine_that_is_idle_now_and_then_is_not_stuck() -> None:
    assert stalled_at(lambda _: 7, lambda now: int(now) // 200 % 2) is None


@pytest.mark.parametrize("silent", [7, -1])
def test_requests_without_a_token_or_an_answer_for_the_whole_time_are_a_stall(silent: int) -> None:
    found = stalled_at(lambda now: int(now) if now < 1000.0 else silent, lambda _: 3)
    assert found == pytest.approx(1000.0 + STALL_S, abs=STALL_S / 5)
