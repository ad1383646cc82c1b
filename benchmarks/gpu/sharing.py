"""Two small LLMs on one GPU with a share of its memory each: how much slower each is than alone, phase by phase.

Each LLM decodes, or computes prompts, for some seconds: alone, and beside the other doing either. The engines start one
after the other: while vLLM measures how much memory a step needs, no neighbour may take or free any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import numpy as np

from benchmarks.gpu.engines import Served, serve
from benchmarks.gpu.makespan import bounds_of
from benchmarks.gpu.pieces import Found, Part, Piece, Table, main
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import SHAPES, context_of, shape_folder, small_shapes_of
from samullm_tui.domain.application import Scalar
from samullm_tui.engines.driving import drive
from samullm_tui.engines.load_design import Ask, Load, warm_up
from samullm_tui.engines.step_log import read_setup, read_steps

__all__ = ["PIECE"]

MEMORY_SHARE = 0.4
FOR_S = {"full": 8.0, "small": 4.0}
NEEDS_S = {"full": 270.0, "small": 120.0}
PHASES = ("decoding", "prompts")
STREAMS = {"full": 128, "small": 16}


def parts(place: Place) -> list[Part]:
    return [Part("two LLMs", partial(_part, place), NEEDS_S[place.sizes])]


def _part(place: Place) -> Found:
    return asyncio.run(_measure(place))


async def _measure(place: Place) -> Found:
    first, second = small_shapes_of(place)
    share: dict[str, Scalar] = {"gpu_memory_utilization": MEMORY_SHARE} if place.device == "gpu" else {}
    arguments = {"load_format": "dummy", **share}
    context = context_of(place)
    async with (
        serve(place, first, str(shape_folder(place, first)), arguments, context=context) as one,
        serve(place, second, str(shape_folder(place, second)), arguments, context=context) as other,
    ):
        rng = np.random.default_rng(0)
        for served in (one, other):
            await drive(served.engine, (warm_up(bounds_of(read_setup(served.steps))),), _vocab(served), rng)
        found: Found = {"starts_s": [served.started.load_s for served in (one, other)]}
        for mine in PHASES:
            found |= {f"{first} {mine} alone": await _rate(place, one, mine)}
            found |= {f"{second} {mine} alone": await _rate(place, other, mine)}
            for theirs in PHASES:
                rates = await asyncio.gather(_rate(place, one, mine), _rate(place, other, theirs))
                found |= {f"{first} {mine} beside {theirs}": rates[0]}
                found |= {f"{second} {theirs} beside {mine}": rates[1]}
    return found


async def _rate(place: Place, served: Served, phase: str) -> dict[str, float]:
    """Tokens computed in a second of steps, and the median step, of an engine that does nothing but `phase`."""
    since = served.steps.stat().st_size
    load = _load(phase, context_of(place), STREAMS[place.sizes])
    rng = np.random.default_rng(1)
    await drive(served.engine, (load,), _vocab(served), rng, for_s=FOR_S[place.sizes])
    rows = read_steps([(served.steps, since)])
    tokens = float((rows.prefill_tokens + rows.decode_seqs).sum())
    return {
        "tokens_per_s": tokens / float(rows.latency_s.sum()),
        "median_step_s": float(np.median(rows.latency_s)),
        "steps": len(rows),
    }


def _load(phase: str, context: int, streams: int) -> Load:
    ask = Ask(16, context // 2) if phase == "decoding" else Ask(context // 2, 1)
    return Load(phase, ((ask,) * 1000,) * (streams if phase == "decoding" else 4))


def _vocab(served: Served) -> int:
    return int(SHAPES[served.engine.replica.llm]["vocab_size"])


def table(place: Place, found: Mapping[str, Found]) -> Table:
    rows = []
    part = found.get("two LLMs", {})
    for llm in small_shapes_of(place) if part else ():
        for mine in PHASES:
            alone = part[f"{llm} {mine} alone"]["tokens_per_s"]
            beside = [part[f"{llm} {mine} beside {theirs}"]["tokens_per_s"] for theirs in PHASES]
            slower = (f"{alone / rate:.2f}" for rate in beside)
            rows.append((llm, mine, f"{alone:,.0f}", *slower))
    header = ("LLM", "phase", "tokens/s alone", *(f"times slower beside {phase}" for phase in PHASES))
    return Table("(f) two small LLMs on one GPU", header, rows)


PIECE = Piece("sharing", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
