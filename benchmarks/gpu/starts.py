"""From starting an engine to its first token: files in memory or on disk, compiled before or not, eager; then asleep.

The weights are random and on the disk, so that they are read. A start that is the first to compile has an empty
cache of its own. `memory back` is the time from the stop until the GPU's memory is free again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

from benchmarks.gpu.engines import ON_CPU, environment, memory_back_s, on_gpu, serve, used_bytes
from benchmarks.gpu.pieces import Found, Part, Piece, Table, main
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import context_of, shapes_of
from benchmarks.gpu.verbs import last_object
from benchmarks.gpu.weights import drop_from_page_cache, read_through, weighted_folder

__all__ = ["PIECE"]

NEEDS_S = {"full": 120.0, "small": 90.0}
STARTS = {
    # name: (files in memory, compiled code kept from a start before, eager)
    "eager, files on disk": (False, True, True),
    "eager, files in memory": (True, True, True),
    "compiled, files on disk, nothing compiled before": (False, False, False),
    "compiled, files on disk": (False, True, False),
    "compiled, files in memory": (True, True, False),
}
LEVELS = (1, 2)
GIB = 1024**3


def parts(place: Place) -> list[Part]:
    starts = [Part(name, partial(_start, place, *how), NEEDS_S[place.sizes]) for name, how in STARTS.items()]
    naps = [Part(f"sleep {level}", partial(_sleep, place, level), NEEDS_S[place.sizes]) for level in LEVELS]
    return [*starts, *naps]


def _start(place: Place, in_memory: bool, compiled_before: bool, eager: bool) -> Found:
    folder = weighted_folder(place, shapes_of(place)[0])
    cache = place.folder("compiled")
    done = cache / "done"
    if not compiled_before:
        shutil.rmtree(cache)
    elif not eager and not done.exists():
        # On this machine nothing was compiled yet: another one measured the start that compiles.
        asyncio.run(_timed(place, str(folder), str(cache), eager=False))
    (read_through if in_memory else drop_from_page_cache)(folder)
    found = asyncio.run(_timed(place, str(folder), str(cache), eager=eager))
    if not eager:
        done.touch()
    return found


async def _timed(place: Place, folder: str, cache: str, *, eager: bool) -> Found:
    before = await asyncio.to_thread(used_bytes)
    compiled = {
        "VLLM_CACHE_ROOT": cache,
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
    }
    with environment(**compiled):
        engine = {"enforce_eager": eager}
        async with serve(place, "start", folder, engine, context=context_of(place), logged=False) as served:
            serving = await asyncio.to_thread(used_bytes)
    back_s = await memory_back_s(before)
    found = {"load_s": served.started.load_s, "kv_blocks": served.started.kv_blocks, "memory_back_s": back_s}
    return {**found, "used_before": before, "used_serving": serving}


def _sleep(place: Place, level: int) -> Found:
    """In a process of its own: the engine is inside it (see sleeping.py)."""
    folder = weighted_folder(place, shapes_of(place)[0])
    command = [sys.executable, "-m", "benchmarks.gpu.sleeping", str(folder), str(level), place.device]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=max(place.left_s, 1.0),
        env={**os.environ, **(ON_CPU if place.device == "cpu" else on_gpu())},
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the sleeping engine ended with status {done.returncode}: {last[:300]}")
    return last_object(done.stdout)


def table(place: Place, found: Mapping[str, Found]) -> Table:
    rows = []
    for name, part in found.items():
        if name.startswith("sleep"):
            rows.append((name, *_nap(part)))
            continue
        used = (part["used_serving"] or 0) - (part["used_before"] or 0)
        back = "" if part["memory_back_s"] is None else f"{part['memory_back_s']:.2f}"
        rows.append((name, f"{part['load_s']:.1f}", f"{used / GIB:.1f} used" if used else "", back))
    header = ("start", "s to the first token", "GiB", "memory back, s")
    return Table(f"(c) starts of {shapes_of(place)[0]}", header, rows)


def _nap(part: Found) -> tuple[str, str, str]:
    """A CPU engine goes through the states of sleep and frees nothing."""
    same = "same outputs" if part["same_outputs"] else "OTHER OUTPUTS"
    took = f"{part['sleep_s']:.2f} to sleep, {part['wake_s']:.2f} to wake, {same}"
    if part["used_awake"] is None:
        return took, "none to free", ""
    return took, f"{(part['used_awake'] - part['used_asleep']) / GIB:.1f} freed", ""


PIECE = Piece("starts", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
