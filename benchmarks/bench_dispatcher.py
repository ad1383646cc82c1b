"""The dispatcher against a bare client: how much of an engine's throughput a run gets.

One vLLM server on the CPU with a tiny checkpoint. By turns, on the same server: a bare aiohttp client that keeps so many
requests in flight and throws the answers away, and the runner as in a run (decisions, rows and journal on the disk).
Starts a real engine, so that it does nothing unless told how often: `python -m benchmarks.bench_dispatcher --repeats 5`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from benchmarks.bench_supervisor import Recorder, candidate_of, table_of
from benchmarks.table import print_table
from samullm_tui.domain.application import LLM
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.engines.protocol import Completion, EngineStats, GenerateRequest, Started
from samullm_tui.engines.vllm_engine import VllmEngine
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.spec import RunPaths
from samullm_tui.supervisor.texts import Texts

TOKENS_IN = TOKENS_OUT = 64
SAMPLING = {"max_tokens": TOKENS_OUT, "ignore_eos": True, "temperature": 0.0}


class Took(NamedTuple):
    """Seconds, and CPU seconds of this process."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Took:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Took) -> Took:
        return Took(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)


class Running:
    """An engine that serves already and is not stopped."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.replica, self.max_in_flight = engine.replica, engine.max_in_flight

    async def start(self) -> Started:
        return Started(0.0)

    async def generate(self, request: GenerateRequest) -> Completion:
        return await self._engine.generate(request)

    async def stats(self) -> EngineStats:
        return await self._engine.stats()

    async def stop(self) -> None:
        pass

    async def failed(self) -> str:
        return await self._engine.failed()


def prompts(count: int, seed: int) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(row) for row in rng.integers(10, 500, (count, TOKENS_IN)).tolist()]


async def bare(engine: VllmEngine, ids: list[tuple[int, ...]]) -> Took:
    """The bare client."""
    session = engine._client._session  # type: ignore[union-attr]  # noqa: SLF001  (its address and its key)
    url, headers = session._base_url, dict(session.headers)  # noqa: SLF001
    fixed = {"model": engine._cookie, "return_token_ids": True, **SAMPLING}  # noqa: SLF001
    left: Iterator[tuple[int, ...]] = iter(ids)

    async def worker(session: aiohttp.ClientSession) -> None:
        for prompt in left:
            async with session.post("/v1/completions", json={**fixed, "prompt": prompt}) as response:
                assert len(json.loads(await response.read())["choices"]) == 1

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
        began = Took.now()
        await asyncio.gather(*(worker(session) for _ in range(engine.max_in_flight)))
        return Took.now() - began


async def own(engine: VllmEngine, ids: list[tuple[int, ...]]) -> Took:
    """The runner, until the last row is durable."""
    table = table_of(len(ids), 1, 1)
    ledger = Ledger(table, np.full(len(ids), TOKENS_OUT), {}, [])

    def request(index: int, key: int, prompt_tokens: int, _: Callable[[int], str]) -> GenerateRequest:
        return GenerateRequest(key=key, token_ids=ids[index], sampling=SAMPLING, prompt_tokens=prompt_tokens)

    with tempfile.TemporaryDirectory(prefix="samullm-bench-") as folder:
        recorder = Recorder(RunPaths(Path(folder)))
        runner = Runner(
            RunningState(candidate_of(table, 1), ledger),
            make_engine=lambda _: Running(engine),
            make_request=request,
            texts=Texts(ledger, Path(folder) / "outputs.jsonl", {}),
            recorder=recorder,
            clock=asyncio.get_running_loop().time,
            rng=np.random.default_rng(1),
        )
        began = Took.now()
        await runner.run()
        await recorder.record.committed()
        took = Took.now() - began
        assert recorder.state.finished == len(ids)
        await asyncio.to_thread(recorder.record.close)
        return took


async def measure(repeats: int, requests: int, in_flight: int) -> None:
    llm = LLM(name="llm0", checkpoint="tiny:llama", lengths="x", engine={"max_num_seqs": in_flight})
    run = f"bench-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="samullm-bench-") as folder:
        log = Path(folder) / "engine.log"
        engine = VllmEngine(llm, Replica("llm0", (0,)), run=run, epoch=1, log=log, device="cpu")
        try:
            await engine.start()
            await bare(engine, prompts(requests // 2, 0))
            pairs = []
            for k in range(repeats):
                # New prompts each time: none is in the engine's prefix cache. Who begins alternates.
                order = (bare, own)[:: 1 if k % 2 else -1]
                took = {
                    one: await one(engine, prompts(requests, 2 * k + i + 1)) for i, one in enumerate(order)
                }
                pairs.append((took[bare], took[own]))
        finally:
            await engine.stop()
    _print(pairs, requests, in_flight)


def _print(pairs: list[tuple[Took, Took]], requests: int, in_flight: int) -> None:
    ratios = [one.wall_s / two.wall_s for one, two in pairs]
    rows = [
        (
            str(k + 1),
            f"{requests / one.wall_s:.1f}",
            f"{requests / two.wall_s:.1f}",
            f"{ratio:.3f}",
            f"{1e3 * one.cpu_s / requests:.2f}",
            f"{1e3 * two.cpu_s / requests:.2f}",
        )
        for k, ((one, two), ratio) in enumerate(zip(pairs, ratios, strict=True))
    ]
    header = ("repeat", "bare client /s", "runner /s", "ratio", "bare CPU ms each", "runner CPU ms each")
    title = f"{requests:,} requests of {TOKENS_IN} in and {TOKENS_OUT} out, {in_flight} in flight (measured)"
    print_table(title, header, rows)
    print(f"median ratio {statistics.median(ratios):.3f}; load of this machine {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=0)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=256)
    arguments = parser.parse_args()
    if arguments.repeats < 1 or installed_vllm() is None:
        print("\ndispatcher against a bare client: takes minutes and a real engine (--repeats 5)")
        return
    asyncio.run(measure(arguments.repeats, arguments.requests, arguments.in_flight))


if __name__ == "__main__":
    main()
