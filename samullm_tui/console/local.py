"""The sources of a real console: this machine's files, worker processes, supervisors."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from samullm_tui.console.launcher import Launch, Launched
from samullm_tui.console.reports import CheckReport, WorkerProblems
from samullm_tui.console.sources import Answer, Command, Place, Settings, Tail, Vitals
from samullm_tui.console.threads import in_thread
from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import InputError, Problem, RunError, SamullmError
from samullm_tui.domain.event import GpuSample
from samullm_tui.domain.length_report import LengthReport, RunLengths
from samullm_tui.domain.plan import Forecast
from samullm_tui.domain.run_report import RunReport
from samullm_tui.journal.compressed import SUFFIX
from samullm_tui.journal.reader import JournalTail
from samullm_tui.journal.timeline import Timeline
from samullm_tui.locations import RECORDINGS, run_dir, user_themes
from samullm_tui.supervisor.runs import RunBook

if TYPE_CHECKING:
    from samullm_tui.domain.cluster import Cluster
    from samullm_tui.supervisor.machine import Machine
    from samullm_tui.supervisor.runs import RunSummary

__all__ = ["LocalSources"]

T = TypeVar("T")
GIB = 1024**3
THEME_FILE = "theme"
ANSWER_S = 2.0
BY = "console"


class LocalSources:
    """What is on this machine. Rooms with heavy imports are imported by the thread that needs them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._machine: Machine | None = None
        self._book = RunBook()

    # Files

    def applications(self) -> Sequence[Path]:
        from samullm_tui.workload.library import list_applications

        here = list_applications(Path.cwd())
        shipped = list_applications()
        return [*shipped, *[path for path in here if _is_application(path) and path.resolve() not in shipped]]

    def recordings(self) -> Sequence[Path]:
        return sorted([*RECORDINGS.glob("*.jsonl"), *RECORDINGS.glob(f"*.jsonl{SUFFIX}")])

    def load(self, path: Path) -> Application:
        from samullm_tui.workload.application_file import load_application

        return load_application(path)

    def timeline(self, path: Path) -> Timeline:
        return Timeline(path)

    def tail(self, run: str) -> Tail:
        return JournalTail(run_dir(run))

    def saved_theme(self) -> str:
        try:
            return (user_themes().parent / THEME_FILE).read_text().strip()[:30]
        except (OSError, UnicodeDecodeError):
            return ""

    def save_theme(self, name: str) -> None:
        folder = user_themes().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / THEME_FILE).write_text(name + "\n")
        except OSError:
            # A read-only home is no reason to refuse the colours for this session.
            return

    # This machine and its runs

    def place(self) -> Place:
        machine = self._chosen()
        cluster = machine.cluster
        return Place(
            cluster=self._settings.cluster or ("" if cluster.origin == "detected" else cluster.name),
            title=cluster.title,
            engine=machine.engine,
            gpus=cluster.gpus,
            present=cluster.origin == "detected" or cluster.gpu.kind == "cpu",
            notes=machine.notes,
            speed=self._settings.speed,
        )

    def _chosen(self) -> Machine:
        if self._machine is None:
            from samullm_tui.supervisor.machine import choose_machine

            self._machine = choose_machine(self._settings.cluster, self._settings.engine)
        return self._machine

    def gpus_now(self) -> Sequence[GpuSample]:
        from samullm_tui.telemetry.gpu import sample_gpus

        return sample_gpus()

    def runs(self) -> Sequence[RunSummary]:
        return self._book.summaries()

    def folder(self, run: str) -> Path:
        return run_dir(run)

    def vitals(self, run: str) -> Vitals:
        from samullm_tui.supervisor.client import ControlClient
        from samullm_tui.supervisor.liveness import is_locked
        from samullm_tui.supervisor.spec import existing_run

        paths = existing_run(run)
        if not is_locked(paths.lock):
            return Vitals(alive=False)
        try:
            return Vitals(alive=True, trouble=ControlClient(paths, timeout_s=ANSWER_S).status().trouble)
        except RunError as error:
            return Vitals(alive=True, trouble=error.problems[0].wrong)

    def resume(self, run: str) -> None:
        from samullm_tui.supervisor.launch import spawn_supervisor

        spawn_supervisor(run)

    def control(self, run: str, command: Command) -> str:
        from samullm_tui.supervisor.client import ControlClient

        return ControlClient(run).send(command, by=BY).status

    def replan(self, run: str) -> str:
        from samullm_tui.supervisor.client import ControlClient

        return ControlClient(run).replan(by=BY)

    def answer(self, run: str, number: int, answer: Answer) -> str:
        from samullm_tui.supervisor.client import ControlClient

        return ControlClient(run).send(answer, number=number, by=BY).status

    def approve(self, run: str, rank: int) -> str:
        from samullm_tui.supervisor.client import ControlClient

        return ControlClient(run).approve(rank, by=BY).status

    # Worker processes

    async def check(self, path: Path) -> CheckReport:
        return await _worker(["samullm_tui", "check", str(path), "--json"], CheckReport)

    async def lengths(self, path: Path) -> LengthReport:
        return await _worker(["samullm_tui.forecast", "lengths", str(path)], LengthReport)

    async def forecast(self, path: Path, pins: Sequence[str] = (), draws: int | None = None) -> Forecast:
        machine = await in_thread(self._chosen)
        settings = self._settings
        with tempfile.TemporaryDirectory(prefix="samullm-") as folder:
            words = [
                "samullm_tui.forecast",
                "plan",
                str(path),
                "--cluster",
                _cluster_words(machine.cluster, settings, folder),
            ]
            words += ["--seed", str(settings.seed)]
            samples = draws or settings.samples
            words += ["--samples", str(samples)] if samples else []
            words += [word for pin in pins for word in ("--pin", pin)]
            return await _worker([*words, "--quantile", str(settings.quantile)], Forecast)

    async def report(self, path: Path) -> RunReport:
        return await _worker(["samullm_tui.supervisor.report", "report", str(path)], RunReport)

    async def run_lengths(self, path: Path, until_s: float | None = None) -> RunLengths:
        until = [] if until_s is None else ["--until", repr(until_s)]
        return await _worker(["samullm_tui.supervisor.report", "lengths", str(path), *until], RunLengths)

    def export(self, name: str, text: str) -> Path:
        path = Path.cwd() / re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(Problem(str(path), "", f"cannot be written: {error.strerror}")) from error
        return path

    async def launch(self, application: Path, forecast: Forecast, rank: int) -> str:
        machine, settings = await in_thread(self._chosen), self._settings
        launch = Launch(
            application=str(application.absolute()),
            cluster=machine.cluster,
            engine=machine.engine,
            forecast=forecast,
            rank=rank,
            speed=settings.speed,
            seed=settings.seed,
            samples=settings.samples,
            quantile=settings.quantile,
        )
        launched = await _worker(["samullm_tui.console.launcher"], Launched, msgspec.json.encode(launch))
        return launched.run


def _is_application(path: Path) -> bool:
    """Whether a TOML file of the operator's folder looks like an application at all."""
    try:
        return "[nodes." in path.read_text(encoding="utf-8", errors="replace")[:1_000_000]
    except OSError:
        return False


def _cluster_words(cluster: Cluster, settings: Settings, folder: str) -> str:
    """What another process understands as this cluster: what was said, a preset, or a file of what was detected."""
    if settings.cluster is not None:
        return settings.cluster
    if cluster.origin == "preset":
        return cluster.name
    gpu = cluster.gpu
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", gpu.name).strip("-._")[:60] or "GPU"
    islands = ", ".join(f"[{', '.join(map(str, island))}]" for island in cluster.islands)
    file = Path(folder) / "cluster.toml"
    file.write_text(
        f'name = "this-machine"\ngpus = {cluster.gpus}\nislands = [{islands}]\n'
        f'[gpu]\nname = "{name}"\nkind = "{gpu.kind}"\nmemory_gib = {gpu.memory_bytes / GIB!r}\n'
        f"bandwidth_gb_per_s = {gpu.bandwidth_bytes_per_s / 1e9!r}\ntflops = {gpu.flops_per_s / 1e12!r}\n"
    )
    return str(file)


async def _worker(words: Sequence[str], result: type[T], given: bytes = b"") -> T:
    """Runs `python -m WORDS` with `given` on its stdin, and decodes the one JSON object that it prints. Cancelling kills the process.

    Raises InputError with the problems that it names, SamullmError when it fails in another way.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await process.communicate(given)
    except asyncio.CancelledError:
        _kill(process.pid)
        await process.wait()
        raise
    if process.returncode:
        raise _failure(words, process.returncode, out, err)
    try:
        return msgspec.json.decode(out, type=result)
    except msgspec.DecodeError as error:
        raise SamullmError(Problem(" ".join(words[:2]), "", f"its answer cannot be read: {error}")) from error


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _failure(words: Sequence[str], status: int, out: bytes, err: bytes) -> SamullmError:
    try:
        return InputError(msgspec.json.decode(out, type=WorkerProblems).problems)
    except msgspec.DecodeError:
        lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    if status == InputError.exit_status and lines:
        return InputError([Problem("", "", line.removeprefix("samullm-tui: ")) for line in lines])
    last = lines[-1] if lines else "no message"
    return SamullmError(Problem(" ".join(words[:2]), "", f"ended with status {status}: {last}"))
