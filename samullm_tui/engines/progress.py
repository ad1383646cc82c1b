"""Notices an engine that is stuck although it says it is healthy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from samullm_tui.domain.errors import EngineError
from samullm_tui.engines.protocol import EngineStats

__all__ = ["until_stalled"]

LOOKS = 10
"""How often it looks within the time that counts as stalled."""


async def until_stalled(
    stats: Callable[[], Awaitable[EngineStats]], in_flight: Callable[[], int], stall_s: float
) -> None:
    """Returns when there were requests in flight all through `stall_s` and not one token was generated.

    Statistics that are not answered are no sign of life either. While nothing is in flight the engine is not asked.
    """
    quiet_looks = 0
    tokens = -1
    while quiet_looks < LOOKS:
        await asyncio.sleep(stall_s / LOOKS)
        before = tokens
        if in_flight():
            with suppress(EngineError):
                tokens = (await stats()).output_tokens_total
            quiet_looks = quiet_looks + 1 if tokens == before else 0
        else:
            quiet_looks = 0
