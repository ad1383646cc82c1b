"""Where the console gets its data, and how it makes things happen. Tests give it other sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from samullm_tui.domain.application import Application
from samullm_tui.domain.event import AnyEvent, EngineKind, GpuSample
from samullm_tui.domain.plan import Forecast

if TYPE_CHECKING:
    from samullm_tui.console.reports import CheckReport
    from samullm_tui.domain.length_report import LengthReport, RunLengths
    from samullm_tui.domain.run_report import RunReport
    from samullm_tui.journal.timeline import Timeline
    from samullm_tui.supervisor.runs import RunSummary

__all__ = ["SIMULATED_SPEED", "Answer", "Command", "Place", "Settings", "Sources", "Tail", "Vitals"]

Command = Literal["pause", "resume", "drain", "stop"]
Answer = Literal["accept", "refuse"]


SIMULATED_SPEED = 10.0
"""Simulated seconds a second, when nobody said: a night's job can be watched in an hour."""


class Settings(Struct, frozen=True):
    """What the command line said. None: not said."""

    cluster: str | None = None
    engine: EngineKind | None = None
    seed: int = 0
    speed: float | Literal["max"] = SIMULATED_SPEED
    samples: int | None = None
    quantile: float = 0.5


class Place(Struct, frozen=True):
    """Where a run would happen, and on which engines.

    `cluster` is what to give on a command line, empty for the GPUs of this machine. Unless `present` the GPUs are not
    here: everything on them is simulated.
    """

    cluster: str
    title: str
    engine: EngineKind
    gpus: int
    present: bool
    notes: tuple[str, ...] = ()
    speed: float | Literal["max"] = 1.0


class Vitals(Struct, frozen=True):
    """`alive`: some supervisor has the run. `trouble`: what that one, or nobody, can do now; empty when all is well."""

    alive: bool
    trouble: str = ""


class Tail(Protocol):
    """A journal that may still grow."""

    def poll(self, max_bytes: int = -1) -> list[AnyEvent]:
        """What was appended since the last call, at most about `max_bytes` of it. Raises SamullmError."""


class Sources(Protocol):
    """Everything outside. What is not `async` may block: the console calls it in a thread. Raises SamullmError."""

    def place(self) -> Place:
        """The cluster and the engines that would be used."""

    def applications(self) -> Sequence[Path]:
        """Application files, shipped and the operator's own."""

    def recordings(self) -> Sequence[Path]:
        """Recorded runs."""

    def runs(self) -> Sequence[RunSummary]:
        """Runs of this machine with an honest state, latest first."""

    def load(self, path: Path) -> Application:
        """Reads an application file."""

    def timeline(self, path: Path) -> Timeline:
        """A recording, or a run's folder, to be read and moved along. Does not read it yet, nor block."""

    def tail(self, run: str) -> Tail:
        """The journal of a run of this machine."""

    def vitals(self, run: str) -> Vitals:
        """How the supervisor of a run is. Answers within seconds, whatever state that is in."""

    def folder(self, run: str) -> Path:
        """Where a run of this machine lives."""

    async def check(self, path: Path) -> CheckReport:
        """Counts the requests of an application, in another process."""

    async def forecast(self, path: Path, pins: Sequence[str] = (), draws: int | None = None) -> Forecast:
        """Plans an application in another process, keeping pins such as `vicuna-13b:tp=2`; with `draws` on so many
        draws only. Cancelling kills that process.
        """

    async def lengths(self, path: Path) -> LengthReport:
        """The length distributions of an application's LLMs, from another process."""

    async def report(self, path: Path) -> RunReport:
        """A finished run, or a recording of one, against its forecast, from another process. Cancelling kills it."""

    async def run_lengths(self, path: Path, until_s: float | None = None) -> RunLengths:
        """The answers of a run or a recording, up to `until_s` of its clock, against what was expected of them."""

    def export(self, name: str, text: str) -> Path:
        """Writes a file of that name where the console was started. Returns its whole path."""

    def gpus_now(self) -> Sequence[GpuSample]:
        """What the GPUs of this machine hold now; empty without GPUs."""

    async def launch(self, application: Path, forecast: Forecast, rank: int) -> str:
        """Creates a run with this plan, approved, and starts its supervisor. Returns the run's name."""

    def resume(self, run: str) -> None:
        """Starts a supervisor on an interrupted run."""

    def control(self, run: str, command: Command) -> str:
        """Sends a command to the run's supervisor. Returns the status that it answers with."""

    def replan(self, run: str) -> str:
        """Asks the run's rescheduler for a decision now. Returns what the supervisor says to that."""

    def answer(self, run: str, number: int, answer: Answer) -> str:
        """The operator's word on proposal `number`. Returns the status that the supervisor answers with."""

    def approve(self, run: str, rank: int) -> str:
        """Approves a candidate of a run that waits for it. Returns the status that the supervisor answers with."""

    def saved_theme(self) -> str:
        """The theme that the operator chose last; empty when none was."""

    def save_theme(self, name: str) -> None:
        """Remembers the operator's choice."""
