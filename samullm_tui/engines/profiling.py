"""Measures real engines: how long a start takes, how they set themselves up, and what each of their steps costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from msgspec import Struct

from samullm_tui.domain.application import LLM
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.driving import drive
from samullm_tui.engines.installed import Device
from samullm_tui.engines.load_design import Bounds, design, warm_up
from samullm_tui.engines.protocol import Started
from samullm_tui.engines.step_log import EngineSetup, read_setup, read_steps
from samullm_tui.engines.vllm_engine import VllmEngine
from samullm_tui.latency.measurements import Iterations

__all__ = ["Measured", "Probe", "measure"]

Tell = Callable[[str], None]

MOST_S = 170.0
"""No further start is made that would end later than this: a profile takes under three minutes."""


class Probe(Struct, frozen=True, kw_only=True):
    """What to measure: `llm` on each of `replicas` at the same time, which share the machine but no GPU.

    `vocab` bounds the token ids of the prompts. `load_s` is how long steps are measured. `starts`: how many are; the first
    may have to read and compile what later ones find in caches, and runs mostly see later ones. Logs go to `folder`.
    """

    llm: LLM
    replicas: tuple[Replica, ...]
    device: Device
    run: str
    folder: Path
    vocab: int
    load_s: float
    starts: int


class Steps(Struct, frozen=True):
    """What the engines did under load: the steps of all of them, and how many of the designed loads each finished."""

    setup: EngineSetup
    kv_blocks: int
    rows: Iterations
    loads: tuple[int, ...]
    designed: int


class Measured(Struct, frozen=True):
    """`starts_s`: for each round of starts, the seconds of each replica from its start to its first token."""

    steps: Steps
    starts_s: tuple[tuple[float, ...], ...]

    @property
    def warm_start_s(self) -> float:
        """Median of the starts after the first round; of the first where there was no other."""
        later = [seconds for one in self.starts_s[1:] for seconds in one] or list(self.starts_s[0])
        return float(np.median(later))


async def measure(probe: Probe, rng: np.random.Generator, tell: Tell) -> Measured:
    """Starts the engines, measures their steps, and starts them again. No process of theirs is left on return, nor
    when it raises or is cancelled. Raises EngineStartError, EngineError, ProfileError (too few steps).
    """
    began_s = time.monotonic()
    tell(f"start 1 of {probe.starts}: {len(probe.replicas)} × {probe.llm.checkpoint}")
    async with _serving(probe, 1, tell) as (engines, started):
        steps = await _steps(probe, engines, started[0].kv_blocks, rng, tell)
    starts = [tuple(one.load_s for one in started)]
    for start in range(2, probe.starts + 1):
        if time.monotonic() - began_s + max(starts[-1]) > MOST_S:
            tell(f"no start {start}: it would end more than {MOST_S:.0f} s after the first began")
            break
        tell(f"start {start} of {probe.starts}: what the first had to read and compile is in caches now")
        async with _serving(probe, start, tell) as (_, started):
            starts.append(tuple(one.load_s for one in started))
    return Measured(steps, tuple(starts))


@asynccontextmanager
async def _serving(
    probe: Probe, epoch: int, tell: Tell
) -> AsyncIterator[tuple[list[VllmEngine], list[Started]]]:
    """All engines, started at once, and what their starts said; they are stopped at the end."""
    engines = [
        VllmEngine(
            probe.llm,
            replica,
            run=probe.run,
            epoch=epoch,
            log=probe.folder / f"{replica.name}.{epoch}.log",
            device=probe.device,
            steps=_log(probe, replica) if epoch == 1 else None,
        )
        for replica in probe.replicas
    ]
    try:
        started = await asyncio.gather(*(engine.start() for engine in engines))
        for engine, one in zip(engines, started, strict=True):
            tell(f"{engine.replica.name} is ready after {one.load_s:.1f} s")
        yield engines, started
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))


def _log(probe: Probe, replica: Replica) -> Path:
    return probe.folder / f"{replica.name}.csv"


async def _steps(
    probe: Probe, engines: Sequence[VllmEngine], told: int | None, rng: np.random.Generator, tell: Tell
) -> Steps:
    """Drives all engines at once, each with an order of loads of its own."""
    logs = [_log(probe, engine.replica) for engine in engines]
    setup = read_setup(logs[0])
    kv_blocks = told or setup.kv_blocks
    bounds = Bounds(
        max_num_seqs=setup.max_num_seqs,
        max_num_batched_tokens=setup.max_num_batched_tokens,
        max_model_len=setup.max_model_len,
        kv_tokens=(kv_blocks - 1) * setup.block_size,
        block_size=setup.block_size,
    )
    rngs = rng.spawn(len(engines))
    warming = (drive(e, (warm_up(bounds),), probe.vocab, r) for e, r in zip(engines, rngs, strict=True))
    await asyncio.gather(*warming)
    since = [log.stat().st_size for log in logs]
    loads = [design(bounds, r) for r in rngs]
    tell(f"measuring steps for {probe.load_s:.0f} s: {len(loads[0])} loads, then again")
    driving = (
        drive(e, own, probe.vocab, r, for_s=probe.load_s)
        for e, own, r in zip(engines, loads, rngs, strict=True)
    )
    finished = await asyncio.gather(*driving)
    rows = read_steps(list(zip(logs, since, strict=True)))
    tell(f"{len(rows):,} steps in {sum(finished)} loads")
    return Steps(setup, kv_blocks, rows, tuple(finished), len(loads[0]))
