"""A run of a million requests under a supervisor as it always is, and what its process takes on the way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crash_runs import supervisor_pid

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.errors import RunError
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.launch import create_run, spawn_supervisor
from samullm_tui.supervisor.liveness import is_locked
from samullm_tui.supervisor.spec import RunPaths, existing_run

__all__ = ["Usage", "make_soak", "usage_of", "watch"]

APPLICATION = """
name = "soak"
title = "a source and a consumer, lengths only"

[llms.llama]
checkpoint = "tiny:llama"
context = 1024

[llms.qwen3]
checkpoint = "tiny:qwen3"
context = 1024

[data.questions]
synthetic = {{ records = {records}, seed = 1, fields = {{ question = {{ uniform = [8, 32] }} }} }}

[nodes.answer]
llm = "llama"
from = "questions"
prompt = "{{question}}"
sampling = {{ max_tokens = 24 }}

[nodes.judge]
llm = "qwen3"
from = ["questions", "answer"]
prompt = "{{question}} {{answer}} good?"
sampling = {{ max_tokens = 8 }}
"""
STAGE = Stage((Placement("llama", 1, 1, (0,)), Placement("qwen3", 1, 1, (1,))), ("llama", "qwen3"))
POLL_S = 0.5


@dataclass(frozen=True)
class Usage:
    """Of a supervisor when it had so many outputs: memory now, and the most until now."""

    outputs: int
    resident_mib: float
    peak_mib: float
    cpu_s: float


def make_soak(folder: Path, requests: int) -> RunPaths:
    """An approved run at full speed: half of its requests take the outputs of the other half."""
    (folder / "soak.toml").write_text(APPLICATION.format(records=requests // 2))
    run = create_run(
        folder / "soak.toml",
        cluster_from_preset("cpu:2"),
        "simulated",
        approved=True,
        samples=1,
        speed="max",
        plan=Plan(planner="given", stages=(STAGE,)),
    )
    return existing_run(run)


def watch(paths: RunPaths, every: int, act: Callable[[Usage, int], bool] = lambda *_: True) -> list[Usage]:
    """Starts a supervisor and looks at it each time it has so many outputs more, until it is gone.

    `act` is told of each look and of the process, and may end the watching.
    """
    spawn_supervisor(paths.run)
    pid, client, seen = supervisor_pid(paths), ControlClient(paths), list[Usage]()
    while is_locked(paths.lock):
        try:
            outputs = client.status().outputs
            if outputs and (not seen or outputs >= seen[-1].outputs + every):
                seen.append(usage_of(pid, outputs))
                if not act(seen[-1], pid):
                    return seen
        except (RunError, FileNotFoundError, ProcessLookupError):
            pass  # it ends
        time.sleep(POLL_S)
    return seen


def usage_of(pid: int, outputs: int) -> Usage:
    """All threads of a process together."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory_mib = dict[str, float]()
    for line in status.splitlines():
        name, *value = line.split()
        if name in {"VmRSS:", "VmHWM:"}:
            memory_mib[name] = int(value[0]) / 1024
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(outputs, memory_mib["VmRSS:"], memory_mib["VmHWM:"], cpu_s)
