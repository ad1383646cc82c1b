"""Makes runs, starts their supervisors, and follows them."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from samullm_tui import __version__
from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import ApplicationError, JournalError, Problem, RunError
from samullm_tui.domain.event import AnyEvent, EngineKind, NodeInfo, RunCreated, RunEnded
from samullm_tui.domain.plan import Forecast, Plan
from samullm_tui.journal.reader import JournalTail
from samullm_tui.journal.segments import sync_folder
from samullm_tui.journal.writer import JournalWriter
from samullm_tui.locations import run_dir, runs_dir
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.inputs import inputs_of, write_inputs
from samullm_tui.supervisor.liveness import fence, is_locked
from samullm_tui.supervisor.spec import REPLAN_WAIT_S, Replan, RunPaths, RunSpec, existing_run, write_spec

if TYPE_CHECKING:
    from samullm_tui.domain.application import Application
    from samullm_tui.workload.requests import Workload

__all__ = ["create_run", "follow", "spawn_supervisor"]

POLL_S = 0.1
ANSWER_S = 3.0
START_S = 60.0
"""How long a supervisor may take until it answers: it reads its journal before."""


def create_run(
    application: Path,
    cluster: Cluster,
    engine: EngineKind,
    *,
    speed: float | Literal["max"] = 1.0,
    seed: int = 0,
    plan: Plan | None = None,
    forecast: Forecast | None = None,
    approved: bool = False,
    rank: int = 1,
    samples: int | None = None,
    quantile: float = 0.5,
    allow_outside: bool = False,
    replan: Replan = "auto",
    replan_wait_s: float = REPLAN_WAIT_S,
) -> str:
    """Makes the folder of a run, with all that its supervisor needs, and returns its name. Nothing runs yet.

    `speed` (infinite and "max" are the same) is of simulated engines. Everything that can be wrong is found before
    anything is made. Raises ApplicationError, PlacementError, PlanError, EngineMissingError.
    """
    spec = RunSpec(
        run="",
        application=str(application.resolve()),
        cluster=cluster,
        engine=engine,
        speed="max" if speed in {"max", float("inf")} else speed,
        seed=seed,
        plan=plan,
        forecast=forecast,
        approved=approved,
        rank=rank,
        samples=samples,
        quantile=quantile,
        allow_outside=allow_outside,
        replan=replan,
        replan_wait_s=replan_wait_s,
    )
    workload = _check(spec)
    inputs = inputs_of(workload.application)
    paths = _make_folder(workload.application.name)
    write_inputs(paths, inputs)
    with JournalWriter(paths.journal) as journal:
        journal.append(_created(spec, paths, workload))
    write_spec(paths, replace(spec, run=paths.run))
    sync_folder(runs_dir())
    return paths.run


def spawn_supervisor(run: str) -> None:
    """Starts the supervisor of a run, new or interrupted, and returns when it answers.

    It is a process in a session of its own: it survives this one, and its terminal. One that hangs is ended first.
    Raises RunNotFoundError, and RunError with what it said when it does not start.
    """
    paths = existing_run(run)
    if is_locked(paths.lock) and (_answers(paths) or not fence(paths.lock, paths.heartbeat)):
        raise RunError(Problem(run, "", "has a supervisor already", f"`samullm-tui attach {run}` shows it"))
    said_before, recorded_before = _size(paths.log), _stamp(paths.journal)
    command = (sys.executable, "-m", "samullm_tui.supervisor", str(paths.folder))
    with open(paths.log, "ab", opener=_private) as log:
        started = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=False
        )
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if started.returncode != 0 or not is_locked(paths.lock):
            # A short run may be over before anybody asked.
            if _stamp(paths.journal) != recorded_before and _has_ended(paths):
                return
            raise RunError(Problem(run, "", f"its supervisor did not start: {_said(paths.log, said_before)}"))
        try:
            ControlClient(paths).status()
            return
        except RunError:
            time.sleep(POLL_S)
    raise RunError(Problem(run, "", f"its supervisor does not answer after {START_S:.0f} s"))


def follow(run: str) -> Iterator[AnyEvent]:
    """Every event of a run, from its first, as they come, until the run ends. Raises RunError when its supervisor
    is gone before.
    """
    paths = existing_run(run)
    tail = JournalTail(paths.folder)
    last: AnyEvent | None = None
    while True:
        alive = is_locked(paths.lock)
        before = tail.events
        for event in tail.new():
            last = event
            yield event
        is_quiet = tail.events == before
        if not alive and is_quiet:
            if isinstance(last, RunEnded):
                return
            wrong, right = "its supervisor is gone", f"`samullm-tui resume {run}` goes on"
            raise RunError(Problem(run, "", wrong, right))
        if is_quiet:
            time.sleep(POLL_S)


def _answers(paths: RunPaths) -> bool:
    try:
        ControlClient(paths, ANSWER_S).status()
    except RunError:
        return False
    return True


def _check(spec: RunSpec) -> Workload:
    """Everything about a run that can be wrong, found before it is made."""
    from samullm_tui.forecast.problem import build_problem
    from samullm_tui.supervisor.job import check_given_forecast, check_given_plan, workload_of

    if spec.engine == "vllm":
        from samullm_tui.engines.installed import require_vllm

        require_vllm(spec.cluster.gpu.kind)
    workload = workload_of(spec)
    if spec.engine == "vllm":
        _check_real(spec, workload.application)
    inputs = build_problem(workload, spec.cluster)
    if spec.forecast is not None:
        check_given_forecast(spec, spec.forecast, workload)
        check_given_plan(inputs, spec.forecast.candidates[spec.rank - 1].plan)
    if spec.plan is not None:
        check_given_plan(inputs, spec.plan)
    return workload


def _check_real(spec: RunSpec, application: Application) -> None:
    """What real engines ask of an application beyond what simulated ones do."""
    if not application.has_texts:
        place = ", ".join(f"data.{data.name}" for data in application.data if not data.has_texts)
        right = "give a file with texts, or run it with --engine simulated"
        raise ApplicationError(
            Problem(spec.application, place, "has lengths only, real engines need texts", right)
        )
    seeded = [node.name for node in application.nodes if node.draws_from_seed]
    if seeded and spec.cluster.gpu.kind == "cpu":
        # gpu_model_runner.py of vLLM 0.32: it rewinds the request's generator, which on CPUs cannot be.
        wrong = "has a seed: a CPU engine dies of a seeded request whose prompt it computes in parts"
        place = ", ".join(f"nodes.{name}.sampling" for name in seeded)
        right = "leave the seed out, set temperature to 0, or run it on GPUs"
        raise ApplicationError(Problem(spec.application, place, wrong, right))


def _make_folder(application: str) -> RunPaths:
    """`MMDD-application-xxxx`, mode 0700, with room for the engines' logs."""
    runs_dir().mkdir(parents=True, exist_ok=True, mode=0o700)
    short = re.sub(r"[^a-z0-9]+", "-", application.lower()).strip("-")[:24].strip("-") or "run"
    while True:
        # The date is only for the reader's eye: names are told apart by chance, not by time.
        name = f"{datetime.now().astimezone():%m%d}-{short}-{secrets.token_hex(2)}"
        try:
            run_dir(name).mkdir(mode=0o700)
        except FileExistsError:
            continue
        paths = RunPaths(run_dir(name))
        paths.engines.mkdir(mode=0o700)
        return paths


def _created(spec: RunSpec, paths: RunPaths, workload: Workload) -> RunCreated:
    application, counts = workload.application, workload.requests
    return RunCreated(
        at_s=0.0,
        run=paths.run,
        application=application.name,
        application_sha256=application.sha256,
        cluster=spec.cluster.name,
        gpus=spec.cluster.gpus,
        gpu_kind=spec.cluster.gpu.kind,
        engine=spec.engine,
        seed=spec.seed,
        created_unix_s=time.time(),
        nodes=tuple(
            NodeInfo(node.name, node.llm, counts.get(node.name, 0), node.data, node.sources)
            for node in application.nodes
        ),
        llms=tuple(llm.name for llm in application.llms),
        version=__version__,
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stamp(path: Path) -> tuple[int, int]:
    """Another one when something was written, or a new segment begun."""
    if not path.exists():
        return 0, 0
    status = path.stat()
    return status.st_ino, status.st_size


def _has_ended(paths: RunPaths) -> bool:
    """Whether the run's last word is that it ended."""
    last: AnyEvent | None = None
    try:
        for event in JournalTail(paths.folder).new():
            last = event
    except JournalError:
        return False
    return isinstance(last, RunEnded)


def _said(log: Path, since: int) -> str:
    """What it printed: mistakes, one a line; of a traceback the last line."""
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-1:] if "Traceback" in "".join(lines) else lines) or "it said nothing"
