"""Engines started for a measurement, and what their GPU's memory says of them."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Struct

from benchmarks.gpu.facts import first_gpu
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import context_of, shape_folder
from samullm_tui.domain.application import LLM, Scalar
from samullm_tui.domain.cluster import VISIBLE
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import Started
from samullm_tui.engines.vllm_engine import VllmEngine
from samullm_tui.telemetry.gpu import sample_gpus

__all__ = [
    "CPU_ENGINE",
    "ON_CPU",
    "Served",
    "environment",
    "mark_compiled",
    "memory_back_s",
    "on_gpu",
    "serve",
    "used_bytes",
    "warm_starts",
]

MEMORY_BACK_S = 60.0
LOOK_S = 0.02
SAME_BYTES = 64 * 1024**2

CPU_ENGINE: dict[str, Scalar] = {"enforce_eager": True, "kv_cache_memory_bytes": 64 << 20}
ON_CPU = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Arguments and environment of a vLLM engine inside a process of ours; serve() gives its own."""


class Served(Struct, frozen=True):
    """A running engine. `steps`: where it logs its steps, as engines.step_log writes them."""

    engine: VllmEngine
    started: Started
    steps: Path


@asynccontextmanager
async def serve(
    place: Place,
    name: str,
    checkpoint: str,
    arguments: Mapping[str, Scalar],
    *,
    context: int | None = None,
    logged: bool = True,
) -> AsyncIterator[Served]:
    """One engine on GPU (or slot) 0; it is gone at the end. Raises EngineStartError, TimeoutError."""
    run = f"measure-{secrets.token_hex(4)}"
    folder = place.folder("logs")
    steps = folder / f"{run}.csv"
    llm = LLM(name=name, checkpoint=checkpoint, lengths=name, context=context, engine=arguments)
    engine = VllmEngine(
        llm,
        Replica(name, (0,)),
        run=run,
        epoch=1,
        log=folder / f"{run}.log",
        device=place.device,
        steps=steps if logged else None,
        start_deadline_s=max(place.left_s, 1.0),
    )
    try:
        yield Served(engine, await engine.start(), steps)
    finally:
        await engine.stop()


def mark_compiled(place: Place, shape: str) -> None:
    """Engines of a shape have started on this machine: what they compiled is in vLLM's own cache."""
    (place.folder("compiled-shapes") / shape).touch()


def warm_starts(place: Place, shapes: Sequence[str]) -> None:
    """Starts an engine of each shape that has not started on this machine, so that the next start is a usual one.

    On a CPU nothing is compiled. Raises EngineStartError.
    """
    for shape in shapes:
        if place.device == "gpu" and not (place.folder("compiled-shapes") / shape).exists():
            asyncio.run(_start_once(place, shape))
            mark_compiled(place, shape)


async def _start_once(place: Place, shape: str) -> None:
    folder = str(shape_folder(place, shape))
    arguments = {"load_format": "dummy"}
    async with serve(place, shape, folder, arguments, context=context_of(place), logged=False):
        pass


def on_gpu() -> dict[str, str]:
    """The environment of a process that computes on GPU 0."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", VISIBLE: first_gpu()}


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Engines inherit the environment of whoever starts them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def used_bytes(gpu: int = 0) -> int | None:
    """Memory in use on a GPU; None where nobody can tell."""
    samples = sample_gpus()
    return samples[gpu].memory_used_bytes if gpu < len(samples) else None


async def memory_back_s(before: int | None) -> float | None:
    """How long it takes until no more of GPU 0 is in use than `before`, within some MiB.

    None: nobody can tell, or it does not come back within MEMORY_BACK_S.
    """
    began_s = time.monotonic()
    while before is not None and (waited_s := time.monotonic() - began_s) < MEMORY_BACK_S:
        used = await asyncio.to_thread(used_bytes)
        if used is None:
            return None
        if used <= before + SAME_BYTES:
            return waited_s
        await asyncio.sleep(LOOK_S)
    return None
