"""A thousand requests of ShareGPT's lengths on one engine, at three settings, against the simulator.

Lengths are forced. The simulator has the iteration profile that benchmarks.gpu.iterations measured, the engine's own
word on how it is set up, and when requests reached the engine; nothing else of the run. Sending a thousand requests at
once takes the server's front end a while, which forecasts do not count: a second error is that of requests that arrive
when they were sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from msgspec import convert, to_builtins

from benchmarks.gpu.engines import Served, serve
from benchmarks.gpu.iterations import profile_of_shape
from benchmarks.gpu.pieces import Found, NotHere, Part, Piece, Table, main
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import SHAPES, context_of, shape_folder, shapes_of
from benchmarks.gpu.sharegpt import draw_lengths
from samullm_tui.domain.application import Scalar
from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.engines.driving import drive
from samullm_tui.engines.load_design import Bounds, warm_up
from samullm_tui.engines.protocol import GenerateRequest
from samullm_tui.engines.step_log import EngineSetup, read_arrivals, read_setup, read_steps
from samullm_tui.latency.fit import predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.profile import Profile
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.engine import EngineTrace, simulate_requests

__all__ = ["PIECE"]

REQUESTS = {"full": 1000, "small": 60}
NEEDS_S = {"full": 140.0, "small": 60.0}
SETTINGS: dict[str, dict[str, dict[str, Scalar]]] = {
    "full": {
        "as the engine comes": {},
        "128 sequences, 2,048 tokens": {"max_num_seqs": 128, "max_num_batched_tokens": 2048},
        "small KV cache": {"num_gpu_blocks_override": 6000},
    },
    "small": {
        "as the engine comes": {},
        "8 sequences, 256 tokens": {"max_num_seqs": 8, "max_num_batched_tokens": 256},
        "small KV cache": {"num_gpu_blocks_override": 33},
    },
}
SEED = 20


def parts(place: Place) -> list[Part]:
    settings = SETTINGS[place.sizes].items()
    return [Part(name, partial(_part, place, given), NEEDS_S[place.sizes]) for name, given in settings]


def _part(place: Place, given: Mapping[str, Scalar]) -> Found:
    return asyncio.run(_measure(place, given))


async def _measure(place: Place, given: Mapping[str, Scalar]) -> Found:
    name = shapes_of(place)[0]
    vocab = int(SHAPES[name]["vocab_size"])
    rng = np.random.default_rng(SEED)
    engine = {"load_format": "dummy", **given}
    folder = await asyncio.to_thread(shape_folder, place, name)
    async with serve(place, "served", str(folder), engine, context=context_of(place)) as served:
        setup = read_setup(served.steps)
        await drive(served.engine, (warm_up(bounds_of(setup)),), vocab, rng)
        most = min(setup.max_model_len, (setup.kv_blocks - 1) * setup.block_size)
        prompt, output = draw_lengths(REQUESTS[place.sizes], most, rng)
        requests = [
            GenerateRequest(
                key=index,
                token_ids=tuple(rng.integers(2, vocab, tokens).tolist()),
                sampling={"max_tokens": most_tokens, "ignore_eos": True, "temperature": 1.0},
            )
            for index, (tokens, most_tokens) in enumerate(zip(prompt.tolist(), output.tolist(), strict=True))
        ]
        found = await _served(served, requests)
    return {**found, "setup": to_builtins(setup), "prompt": prompt.tolist(), "output": output.tolist()}


def bounds_of(setup: EngineSetup) -> Bounds:
    kv_tokens = (setup.kv_blocks - 1) * setup.block_size
    return Bounds(
        setup.max_num_seqs, setup.max_num_batched_tokens, setup.max_model_len, kv_tokens, setup.block_size
    )


async def _served(served: Served, requests: list[GenerateRequest]) -> Found:
    """All sent at once; when each was sent, reached the engine and was done, seconds from the first."""
    stats = await served.engine.stats()
    since = served.steps.stat().st_size
    began_s = time.monotonic()
    sent_s, done_s = [0.0] * len(requests), [0.0] * len(requests)

    async def one(request: GenerateRequest) -> int:
        sent_s[request.key] = time.monotonic() - began_s
        completion = await served.engine.generate(request)
        done_s[request.key] = time.monotonic() - began_s
        return completion.output_tokens

    tokens = await asyncio.gather(*map(one, requests))
    preemptions = (await served.engine.stats()).preemptions_total - stats.preemptions_total
    arrivals = read_arrivals(served.steps, began_s)
    if len(arrivals) != len(requests):
        wrong = f"{len(arrivals)} arrivals of {len(requests)} requests were logged"
        raise EngineError(Problem(served.engine.replica.name, "", wrong))
    rows = read_steps([(served.steps, since)])
    steps = {name: getattr(rows, name).tolist() for name in rows.__dataclass_fields__}
    return {
        "sent_s": sent_s,
        "arrivals": [(one.at_s - began_s, one.prompt_tokens, one.max_tokens) for one in arrivals],
        "done_s": done_s,
        "tokens": int(sum(tokens)),
        "preemptions": preemptions,
        "steps": steps,
    }


def table(place: Place, found: Mapping[str, Found]) -> Table:
    rows: list[tuple[str, ...]] = []
    for name, part in found.items():
        try:
            profile = profile_of_shape(place, shapes_of(place)[0])
        except NotHere as error:
            rows.append((name, f"{max(part['done_s']):.2f}", *[""] * 6, str(error)))
            continue
        rows.append((name, *_compared(part, profile)))
    header = (
        *("setting", "makespan s", "simulated s", "error", "error by times of sending", "steps", "simulated"),
        *("preemptions / simulated", "sum of its steps by the profile"),
    )
    return Table(f"(d) requests of ShareGPT's lengths on {shapes_of(place)[0]}", header, rows)


def _compared(part: Found, profile: Profile) -> tuple[str, ...]:
    makespan_s, steps = max(part["done_s"]), Iterations(*map(np.array, part["steps"].values()))
    sent = list(zip(part["sent_s"], part["prompt"], part["output"], strict=True))
    trace, as_sent = (simulated(part, profile, requests) for requests in (part["arrivals"], sent))
    priced = predicted_s(profile.iteration, steps).sum() / steps.latency_s.sum() - 1
    return (
        f"{makespan_s:.2f}",
        f"{trace.makespan_s:.2f}",
        f"{trace.makespan_s / makespan_s - 1:+.1%}",
        f"{as_sent.makespan_s / makespan_s - 1:+.1%}",
        f"{len(steps):,}",
        f"{trace.iterations:,} ({trace.iterations / len(steps) - 1:+.1%})",
        f"{part['preemptions']} / {trace.preemptions}",
        f"{priced:+.1%}",
    )


def simulated(part: Found, profile: Profile, requests: Sequence[tuple[float, int, int]]) -> EngineTrace:
    """Requests (seconds of arrival, prompt tokens, output tokens), in this order, on the simulated engine."""
    setup = convert(part["setup"], EngineSetup)
    config = EngineConfig(
        max_num_seqs=setup.max_num_seqs,
        max_num_batched_tokens=setup.max_num_batched_tokens,
        kv_blocks=setup.kv_blocks,
        block_size=setup.block_size,
        max_model_len=setup.max_model_len,
        async_scheduling=setup.asynchronous,
        prefix_caching=True,
    )
    arrival_s, prompt, output = map(np.array, zip(*requests, strict=True))
    return simulate_requests(config, profile.iteration, arrival_s, prompt, output)


PIECE = Piece("makespan", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
