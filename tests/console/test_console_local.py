"""The real sources: worker processes end when nobody waits for them, runs are read bit by bit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from samullm_tui.console import local
from samullm_tui.console.local import LocalSources
from samullm_tui.console.reports import CheckReport
from samullm_tui.console.sources import Settings
from samullm_tui.console.threads import in_thread
from samullm_tui.domain.cluster import Cluster, GpuType, cluster_from_preset, islands_of
from samullm_tui.domain.errors import InputError, Problem, RunError, SamullmError
from samullm_tui.journal.reader import JournalTail
from samullm_tui.journal.state import fold
from samullm_tui.locations import APPS, run_dir
from samullm_tui.supervisor.control import ControlServer, Status, open_socket
from samullm_tui.supervisor.runs import RunBook
from samullm_tui.supervisor.spec import RunPaths
from samullm_tui.workload.cluster_file import load_cluster
from tests.console.fakes import RUN, beginning, ending, middle, write_journal

SLEEPER = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(__file__).with_name("pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules worker processes can run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def wait_for(happened: Callable[[], bool]) -> None:
    """Blocks until another process did something (the test's own timeout bounds it)."""
    while not happened():
        time.sleep(0.01)


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


async def test_a_worker_that_nobody_waits_for_is_killed_with_its_children(module_folder: Path) -> None:
    (module_folder / "sleeper.py").write_text(SLEEPER)
    work = asyncio.create_task(local._worker(["sleeper"], CheckReport))
    pids = module_folder / "pids"
    await asyncio.to_thread(wait_for, lambda: pids.exists() and len(pids.read_text().split()) == 2)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    for pid in map(int, pids.read_text().split()):
        await asyncio.to_thread(wait_for, partial(gone, pid))


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        (
            'print(\'{"problems": [{"file": "", "place": "llms.a", "wrong": "bad", "right": ""}]}\'); raise SystemExit(2)',
            InputError,
            "llms.a: bad",
        ),
        (
            "import sys; sys.stderr.write('samullm-tui: no such file\\n'); raise SystemExit(2)",
            InputError,
            "no such file",
        ),
        ("import os; os.kill(os.getpid(), 9)", SamullmError, "ended with status -9"),
        ("raise RuntimeError('broken inside')", SamullmError, "RuntimeError: broken inside"),
        ("print('no json')", SamullmError, "cannot be read"),
        ("pass", SamullmError, "cannot be read"),
    ],
)
async def test_a_worker_that_fails_says_why(
    module_folder: Path, program: str, kind: type[SamullmError], words: str
) -> None:
    (module_folder / "program.py").write_text(program)
    with pytest.raises(kind, match=words):
        await local._worker(["program"], CheckReport)


async def test_requests_of_a_shipped_application_are_counted_in_another_process() -> None:
    report = await LocalSources(Settings()).check(APPS / "selftest.toml")
    assert report.application == "selftest"
    assert sum(report.requests.values()) > 0


async def test_problems_of_an_application_come_back_from_the_worker(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "x"\n')
    with pytest.raises(InputError):
        await LocalSources(Settings()).lengths(bad)


def test_a_detected_machine_means_the_same_to_a_worker(tmp_path: Path) -> None:
    gpu = GpuType("NVIDIA Odd GPU/3", 90 * 1024**3, 1.7e12, 4.1e14)
    machine = Cluster(name="Odd:3", gpu=gpu, gpus=3, islands=((0, 1), (2,)), origin="detected")
    read = load_cluster(local._cluster_words(machine, Settings(), str(tmp_path)))
    assert (read.gpus, read.islands, read.gpu.memory_bytes) == (3, ((0, 1), (2,)), gpu.memory_bytes)
    assert read.gpu.flops_per_s == pytest.approx(gpu.flops_per_s)


def test_what_was_said_is_handed_on_as_it_was_said(tmp_path: Path) -> None:
    preset = cluster_from_preset("h100-80g:4")
    assert local._cluster_words(preset, Settings(), str(tmp_path)) == "h100-80g:4"
    assert local._cluster_words(preset, Settings(cluster="my.toml"), str(tmp_path)) == "my.toml"
    assert islands_of(4, 8) == preset.islands


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_run(home: Path, name: str) -> Path:
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text("{}")
    return folder


def test_runs_are_listed_with_an_honest_state(home: Path) -> None:
    write_journal(make_run(home, "a-ended") / "journal.jsonl", [*beginning(), *middle(), *ending()])
    write_journal(make_run(home, "b-gone") / "journal.jsonl", [*beginning(), *middle()])
    (make_run(home, "c-damaged") / "journal.jsonl").write_text("nothing that we wrote\n")
    found = {summary.run: summary for summary in LocalSources(Settings()).runs()}
    assert {name: summary.status for name, summary in found.items()} == {
        "a-ended": "succeeded",
        "b-gone": "interrupted",
    }
    assert (found["b-gone"].outputs, found["b-gone"].errors, found["b-gone"].requests) == (400, 1, 1873)


def test_a_growing_journal_is_read_once(home: Path) -> None:
    journal = make_run(home, RUN) / "journal.jsonl"
    write_journal(journal, beginning())
    book = RunBook()
    assert book.summaries()[0].outputs == 0
    write_journal(journal, middle())
    before = journal.stat().st_size
    assert book.summaries()[0].outputs == 400
    tail, state = next(iter(book._known.values()))
    assert (tail.good_bytes, state.events) == (before, len(beginning()) + len(middle()))


def test_a_run_whose_supervisor_is_gone_is_not_alive(home: Path) -> None:
    make_run(home, RUN)
    assert not LocalSources(Settings()).vitals(RUN).alive


def test_the_chosen_theme_is_remembered() -> None:
    sources = LocalSources(Settings())
    assert sources.saved_theme() == ""
    sources.save_theme("light")
    assert sources.saved_theme() == "light"


async def test_a_plan_that_was_approved_runs_to_its_end(home: Path) -> None:
    sources = LocalSources(Settings(cluster="a100-80g:4", engine="simulated", speed="max", samples=2))
    forecast = await sources.forecast(APPS / "selftest.toml")
    run = await sources.launch(APPS / "selftest.toml", forecast, forecast.candidates[1].rank)
    await asyncio.to_thread(wait_for, lambda: not sources.vitals(run).alive)
    (ended,) = sources.runs()
    assert (ended.run, ended.status, ended.errors) == (run, "succeeded", 0)
    assert ended.outputs == ended.requests == sum(forecast.requests.values())
    state = fold(JournalTail(run_dir(run)).new())
    assert state.candidates == forecast.candidates, "what was approved is not simulated again"
    assert state.approved_rank == 2


async def test_a_run_that_cannot_start_says_why(home: Path, tmp_path: Path) -> None:
    from tests.console.fakes import FORECAST

    bad = tmp_path / "bad.toml"
    bad.write_text('name = "x"\n')
    sources = LocalSources(Settings(cluster="a100-80g:8", engine="simulated"))
    with pytest.raises(InputError, match="llms"):
        await sources.launch(bad, FORECAST, 1)
    assert not list(sources.runs())


async def test_what_a_thread_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)
    assert await in_thread(divmod, 7, 2) == (3, 1)


def test_a_thread_that_hangs_keeps_nobody_from_leaving() -> None:
    never = threading.Event()

    async def leave() -> None:
        asyncio.create_task(in_thread(never.wait))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(leave())
    never.set()


class Desk:
    """What a supervisor hears."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def status(self) -> Status:
        return Status(run=RUN, status="running", pid=1, epoch=1, at_s=0.0, requests=5, outputs=2, errors=0)

    async def approve(self, rank: int, by: str) -> None:
        self.told.append(("approve", rank, by))

    async def control(self, command: str, by: str) -> None:
        self.told.append((command, by))

    async def replan(self, by: str) -> str:
        self.told.append(("replan", by))
        return "a decision is under way"

    async def answer(self, number: int, by: str, *, accept: bool) -> None:
        if number != 3:
            raise RunError(Problem(RUN, "", f"there is no proposal {number}"))
        self.told.append(("accept" if accept else "refuse", number, by))


async def test_the_operators_word_on_a_proposal_reaches_the_supervisor(home: Path) -> None:
    paths, desk, sources = RunPaths(make_run(home, RUN)), Desk(), LocalSources(Settings())
    server = ControlServer(desk, open_socket(paths.socket))
    await server.start()
    try:
        assert await in_thread(sources.replan, RUN) == "a decision is under way"
        assert await in_thread(sources.answer, RUN, 3, "accept") == "running"
        assert await in_thread(sources.answer, RUN, 3, "refuse") == "running"
        with pytest.raises(RunError, match="there is no proposal 4"):
            await in_thread(sources.answer, RUN, 4, "accept")
    finally:
        await server.close()
    assert desk.told == [("replan", "console"), ("accept", 3, "console"), ("refuse", 3, "console")]


def test_an_export_lands_where_the_console_was_started_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = LocalSources(Settings())
    path = sources.export("report-../../evil\nname.html", "<p>")
    assert path.parent == tmp_path
    assert path.read_text() == "<p>"
    monkeypatch.chdir("/proc")
    with pytest.raises(InputError, match="cannot be written"):
        sources.export("x.html", "")


async def test_pins_and_the_number_of_draws_reach_the_forecaster(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    async def worker(words: list[str], result: type, given: bytes = b"") -> None:
        asked.append(words)

    monkeypatch.setattr(local, "_worker", worker)
    sources = LocalSources(Settings(cluster="a100-80g:8", engine="simulated", samples=50))
    await sources.forecast(APPS / "selftest.toml", ["a:tp=2", "b:dp=1"], 10)
    await sources.forecast(APPS / "selftest.toml", ["a:tp=2"])
    await sources.run_lengths(Path("/r"), 70.5)
    words = [" ".join(one) for one in asked]
    assert "--samples 10 --pin a:tp=2 --pin b:dp=1" in words[0]
    assert "--samples 50 --pin a:tp=2" in words[1]
    assert words[2].endswith("lengths /r --until 70.5")
