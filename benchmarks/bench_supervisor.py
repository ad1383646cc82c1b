"""What the supervisor costs: CPU time and memory for each finished request, on simulated engines at full speed.

Everything is as in a run (decisions, dispatch, rows and journal on the disk); only the engines are models, whose own
cost is in it. `python -m benchmarks.bench_supervisor --requests 100000 --profile` also says where the time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np

from benchmarks.table import print_table
from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished
from samullm_tui.domain.plan import Band, Candidate, Placement, Plan, Stage
from samullm_tui.domain.request import RequestTable
from samullm_tui.engines.protocol import GenerateRequest
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.journal.state import RunState, apply
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.supervisor.ledger import Ledger
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow
from samullm_tui.supervisor.perform import Runner
from samullm_tui.supervisor.record import Record
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.spec import RunPaths
from samullm_tui.supervisor.texts import Texts

SECONDS = {"constant_s": 0.01, "per_sequence_s": 2e-5, "per_token_s": 1e-6}
LATENCY = IterationLatency(tuple(SECONDS.get(name, 0.0) for name in COEFFICIENTS))
CONFIG = EngineConfig(256, 8192, 40_000, 16, 4096)
OUTPUT_TOKENS = 64
SHAPES = (
    ("one LLM, one replica", 1, 1, 1),
    ("one LLM, eight replicas", 1, 8, 1),
    ("eight LLMs, one replica each", 8, 1, 1),
    ("chains of ten, eight replicas", 1, 8, 10),
)
"""LLMs, replicas of each, and how many steps a chain has (1: there are none)."""


class Recorder:
    """As the supervisor has it: the fold in memory, everything on the disk."""

    def __init__(self, paths: RunPaths) -> None:
        self.state = RunState()
        self.record = Record(paths, 0, 0, on_trouble=lambda _: None)

    def emit(self, event: AnyEvent) -> None:
        apply(self.state, event)
        self.record.emit(event)

    def output(self, row: OutputRow, event: RequestFinished) -> None:
        apply(self.state, event)
        self.record.output(row, event)

    def error(self, row: ErrorRow, event: RequestFailed) -> None:
        apply(self.state, event)
        self.record.error(row, event)


def table_of(requests: int, llms: int, steps: int) -> RequestTable:
    number = np.arange(requests)
    follows = number % steps > 0
    full = np.ones(requests, np.int64)
    names = tuple(f"llm{k}" for k in range(llms))
    return RequestTable(
        ids=[str(k) for k in number],
        records=[str(k) for k in number],
        llm_names=names,
        node_names=names,
        llm=number % llms,
        node=number % llms,
        prompt_tokens=OUTPUT_TOKENS * full,
        max_tokens=2 * OUTPUT_TOKENS * full,
        known_tokens=-full,
        group=number // steps if steps > 1 else -full,
        parent_start=np.concatenate([[0], np.cumsum(follows)]),
        parents=number[follows] - 1,
        fed=full[follows],
    )


def candidate_of(table: RequestTable, dp: int) -> Candidate:
    placements = tuple(
        Placement(llm, 1, dp, tuple(range(k * dp, (k + 1) * dp))) for k, llm in enumerate(table.llm_names)
    )
    plan = Plan(planner="benchmark", stages=(Stage(placements, table.llm_names),))
    return Candidate(
        rank=1,
        plan=plan,
        makespan_s=Band(0.0, 0.0, 0.0, 0.0),
        gap=0.0,
        gpu_hours=0.0,
        loads=len(placements),
        stages=(),
        spans=(),
        explanation=(),
    )


def run(table: RequestTable, dp: int, folder: Path) -> tuple[float, float]:
    """CPU seconds, and simulated seconds."""
    lengths = np.random.default_rng(1).integers(1, 2 * OUTPUT_TOKENS, len(table))
    ledger = Ledger(table, np.full(len(table), OUTPUT_TOKENS), {}, [])
    recorder = Recorder(RunPaths(folder))

    def request(index: int, key: int, prompt_tokens: int, _: Callable[[int], str]) -> GenerateRequest:
        return GenerateRequest(key=key, prompt_tokens=prompt_tokens, output_tokens=int(lengths[index]))

    async def main() -> float:
        loop = asyncio.get_running_loop()
        runner = Runner(
            RunningState(candidate_of(table, dp), ledger),
            make_engine=lambda replica: SimulatedEngine(replica, CONFIG, LATENCY, 1.0),
            make_request=request,
            texts=Texts(ledger, folder / "outputs.jsonl", {}),
            recorder=recorder,
            clock=loop.time,
            rng=np.random.default_rng(1),
        )
        await runner.run()
        return loop.time()

    began_s = time.process_time()
    simulated_s = run_scaled(main(), inf)
    recorder.record.close()
    return time.process_time() - began_s, simulated_s


def measured(name: str, requests: int, llms: int, dp: int, steps: int) -> tuple[str, ...]:
    table = table_of(requests, llms, steps)
    with tempfile.TemporaryDirectory(prefix="samullm-bench-") as folder:
        cpu_s, simulated_s = run(table, dp, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    per = 1e5 * cpu_s / requests
    return (
        name,
        f"{requests:,}",
        f"{per:.1f}",
        f"{requests / cpu_s:,.0f}",
        f"{requests / simulated_s:,.0f}",
        f"{peak:,.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    measured("warm", 2_000, 1, 1, 1)
    profile = cProfile.Profile()
    rows = []
    for name, llms, dp, steps in SHAPES:
        if arguments.profile:
            profile.enable()
        rows.append(measured(name, arguments.requests, llms, dp, steps))
        profile.disable()
    header = ("what", "requests", "CPU s / 100,000", "finished / CPU s", "finished / simulated s", "peak MiB")
    print_table("the supervisor on simulated engines (CPU time measured, all threads)", header, rows)
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
