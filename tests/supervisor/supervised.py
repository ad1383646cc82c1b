"""Whole supervisors in this process and in virtual time, on simulated engines that fail as a seed says."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import AnyEvent
from samullm_tui.domain.plan import Placement, Plan, Replica, Stage
from samullm_tui.engines.protocol import Engine
from samullm_tui.engines.simulated import SimulatedEngine
from samullm_tui.engines.virtual_time import ScaledLoop
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor import supervise
from samullm_tui.supervisor.history import read_history
from samullm_tui.supervisor.job import Job, load_job
from samullm_tui.supervisor.launch import create_run
from samullm_tui.supervisor.planning import Planned, plan_here
from samullm_tui.supervisor.reschedule_thinker import ThinkingHere
from samullm_tui.supervisor.spec import RunPaths, RunSpec, existing_run, read_spec
from samullm_tui.supervisor.supervise import Supervisor

APPLICATION = """
name = "stories"
title = "many stories told, each of them judged"

[data.prompts.synthetic]
records = 160
seed = 3
[data.prompts.synthetic.fields]
question = { lognormal = { median = 150, p90 = 700, max = 2000 } }

[llms.teller]
checkpoint = "lmsys/vicuna-13b-v1.5"
context = 4096
engine = { max_num_seqs = 8 }

[llms.judge]
checkpoint = "meta-llama/Llama-2-7b-chat-hf"
context = 4096
engine = { max_num_seqs = 8 }

[nodes.tell]
llm = "teller"
from = "prompts"
prompt = "{question}"
sampling = { max_tokens = 900 }

[nodes.judge]
llm = "judge"
from = "tell"
prompt = "{tell}"
sampling = { max_tokens = 400 }
"""
REQUESTS = 320
GPUS = 4
EFFORT = 20_000
"""Of a decision: enough to see that this plan is a bad one."""
PLAN = Plan(
    planner="given",
    stages=(
        Stage((Placement("teller", 1, 1, (0,)),), ("teller",)),
        Stage((Placement("judge", 1, 1, (1,)),), ("judge",)),
    ),
)
"""A bad one: it leaves GPUs empty."""


def stories(folder: Path, **options: object) -> RunPaths:
    (folder / "stories.toml").write_text(APPLICATION)
    given = {"approved": True, "samples": 1, "speed": "max", "plan": PLAN, **options}
    cluster = cluster_from_preset(f"a100-80g:{GPUS}")
    return existing_run(create_run(folder / "stories.toml", cluster, "simulated", **given))  # type: ignore[arg-type]


class Faults:
    """Kills each engine with a chance of `dies`, within `within_s` of its start; takes a GPU away at `lost_s`."""

    def __init__(
        self, seed: int, dies: float = 0.0, within_s: float = 200.0, lost_s: float = math.inf
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.dies, self.within_s, self.lost_s = dies, within_s, lost_s

    def make(self, job: Job) -> Callable[[Replica], Engine]:
        def make(replica: Replica) -> Engine:
            engine = job.make_engine(replica)
            assert isinstance(engine, SimulatedEngine)
            if self.rng.random() < self.dies:
                delay_s = float(self.rng.uniform(0, self.within_s))
                asyncio.get_running_loop().call_later(delay_s, engine.fail, "killed by the test")
            return engine

        return make

    def begin(self, supervisor: Supervisor) -> None:
        if self.lost_s < math.inf:
            asyncio.get_running_loop().call_later(self.lost_s, self._lose, supervisor)

    def _lose(self, supervisor: Supervisor) -> None:
        runner = supervisor._runner
        if runner is not None and runner.state.ledger.open_requests:
            runner.gpu_taken(int(self.rng.integers(GPUS)), "30.0 of its 80.0 GiB are in use")
            runner.wake()


def supervised(
    paths: RunPaths,
    monkeypatch: pytest.MonkeyPatch,
    faults: Faults | None = None,
    then: Callable[[Supervisor], None] = lambda _: None,
) -> list[AnyEvent]:
    """Supervises a run to its end, and gives its whole journal."""
    some = faults or Faults(0)

    def load(spec: RunSpec, paths: RunPaths, epoch: int) -> Job:
        job = load_job(spec, paths, epoch)
        return replace(job, make_engine=some.make(job))

    async def plan(_: RunPaths) -> Planned:
        return plan_here(read_spec(paths))

    async def main() -> None:
        supervisor = Supervisor(read_spec(paths), paths, read_history(paths), lambda: ThinkingHere(EFFORT))
        some.begin(supervisor)
        then(supervisor)
        await supervisor.run()

    monkeypatch.setattr(supervise, "load_job", load)
    monkeypatch.setattr(
        supervise, "plan_in_process", plan
    )  # starting a process takes longer than all the rest
    with asyncio.Runner(loop_factory=lambda: ScaledLoop(math.inf)) as runner:
        runner.run(main())
    return list(read_events(paths.journal))


def cut(paths: RunPaths, events: int, name: str) -> RunPaths:
    """A copy of the run, as if its supervisor had been killed after so many events."""
    copy = RunPaths(paths.folder.with_name(name))
    shutil.copytree(paths.folder, copy.folder)
    lines = paths.journal.read_bytes().splitlines(keepends=True)
    copy.journal.write_bytes(b"".join(lines[:events]))
    return copy
