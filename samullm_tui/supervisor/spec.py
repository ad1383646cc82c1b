"""What a run was asked to do, and where its files stand.

RUN_DIR/            0700
  spec.json         what was asked (RunSpec)
  inputs.json       the application as it was then, and checksums of its data
  journal.jsonl     what happened; what of it was long ago is in journal.NUMBER.jsonl.zst
  outputs.jsonl     one row for each finished request
  errors.jsonl      one row for each request without an output
  engines/          one log for each engine
  supervisor.log    what the supervisor printed: nothing, unless it broke
  control.sock      the control socket of the living supervisor
  lock              held by the living supervisor
  heartbeat         when its event loop last turned
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import Problem, RunError, RunNotFoundError
from samullm_tui.domain.event import EngineKind
from samullm_tui.domain.plan import Forecast, Plan
from samullm_tui.journal.segments import sync_folder
from samullm_tui.locations import run_dir

__all__ = [
    "REPLAN_WAIT_S",
    "Replan",
    "RunPaths",
    "RunSpec",
    "existing_run",
    "read_spec",
    "write_private",
    "write_spec",
]


Replan = Literal["auto", "ask", "off"]
REPLAN_WAIT_S = 60.0


class RunSpec(Struct, frozen=True, kw_only=True):
    """What to run. `application` is an absolute path, `speed` applies to simulated engines only.

    `plan` is simulated and run without planning when given; `forecast` is what was planned before, and not simulated
    again. `approved` approves candidate `rank` beforehand.
    `samples` and `quantile` are of the planning (no `samples`: as many as it takes for the size).
    `replan`: whether the rest of the plan is replaced while the run goes on: by itself (`auto`), when the operator
    accepts that within `replan_wait_s` of the run's clock (`ask`), or never (`off`).
    """

    run: str
    application: str
    cluster: Cluster
    engine: EngineKind
    speed: float | Literal["max"] = 1.0
    seed: int = 0
    plan: Plan | None = None
    forecast: Forecast | None = None
    approved: bool = False
    rank: int = 1
    samples: int | None = None
    quantile: float = 0.5
    allow_outside: bool = False
    replan: Replan = "auto"
    replan_wait_s: float = REPLAN_WAIT_S

    @property
    def rate(self) -> float:
        """Simulated seconds a second; infinite for `max`. A real engine has no other speed than 1."""
        if self.engine != "simulated":
            return 1.0
        return math.inf if self.speed == "max" else float(self.speed)


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of one run."""

    folder: Path

    @property
    def run(self) -> str:
        return self.folder.name

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs.json"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs.jsonl"

    @property
    def errors(self) -> Path:
        return self.folder / "errors.jsonl"

    @property
    def engines(self) -> Path:
        return self.folder / "engines"

    @property
    def log(self) -> Path:
        return self.folder / "supervisor.log"

    @property
    def socket(self) -> Path:
        return self.folder / "control.sock"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def heartbeat(self) -> Path:
        return self.folder / "heartbeat"


def existing_run(run: str) -> RunPaths:
    """The files of a run of this machine. Raises RunNotFoundError."""
    folder = run_dir(run)
    # A run's name is one plain folder name: anything else could lead out of the runs' folder.
    if not run or run in {".", ".."} or "/" in run or not (folder / "spec.json").is_file():
        raise RunNotFoundError(
            Problem(run, "", "there is no run of that name", "`samullm-tui runs` lists them")
        )
    return RunPaths(folder)


def write_private(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes a whole file, mode 0600, so that a reader sees the old or the new content, never a part.

    `durable`: on return it is on the disk, its name too.
    """
    fresh = path.with_name(f"{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(descriptor)
    fresh.replace(path)
    if durable:
        sync_folder(path.parent)


def write_spec(paths: RunPaths, spec: RunSpec) -> None:
    write_private(paths.spec, msgspec.json.format(msgspec.json.encode(spec)), durable=True)


def read_spec(paths: RunPaths) -> RunSpec:
    """Raises RunError when the file is damaged."""
    try:
        return msgspec.json.decode(paths.spec.read_bytes(), type=RunSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(Problem(str(paths.spec), "", f"cannot be read: {error}")) from error
