"""Through a real SSH server on the loopback: the console works, and whatever becomes of the link, the run does not notice."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import RunEnded, SupervisorStarted
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.journal.reader import read_events
from samullm_tui.locations import APPS
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.launch import create_run, spawn_supervisor
from samullm_tui.supervisor.liveness import is_locked
from samullm_tui.supervisor.spec import RunPaths, existing_run
from tests.console.fakes import beginning, ending, middle, write_journal
from tests.console.ssh_server import PATIENCE_S, Client, Server, open_server

CONSOLE = (sys.executable, "-m", "samullm_tui")
REPOSITORY = Path(__file__).resolve().parents[2]
PLAN = Plan(
    planner="given",
    stages=(
        Stage((Placement("llama", 1, 1, (0,)), Placement("qwen3", 1, 1, (1,))), ("llama", "qwen3")),
        Stage((Placement("gpt2", 1, 2, (0, 1)),), ("gpt2",)),
    ),
)


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _plain_home: None) -> None:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with open_server() as opened:
        yield opened


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return write_journal(tmp_path / "recorded.jsonl", [*beginning(), *middle(), *ending()])


async def until(happened: Callable[[], bool]) -> None:
    """Waits for something that will surely happen (the test's own timeout bounds it)."""
    while not happened():  # noqa: ASYNC110  (processes of others do not tell)
        await asyncio.sleep(0.02)


async def start_run() -> RunPaths:
    """A supervised run on simulated engines. It waits for its approval, and is quick from then on."""
    cluster = cluster_from_preset("cpu:2")
    run = create_run(APPS / "selftest.toml", cluster, "simulated", samples=1, speed="max", plan=PLAN)
    await asyncio.to_thread(spawn_supervisor, run)
    return existing_run(run)


async def check_nothing_noticed(paths: RunPaths) -> None:
    """The supervisor that there was takes the approval, and brings the run to its end."""
    await asyncio.to_thread(ControlClient(paths).approve, 1)
    await until(lambda: not is_locked(paths.lock))
    events = list(read_events(paths.journal))
    last = events[-1]
    assert isinstance(last, RunEnded)
    assert last.status == "succeeded"
    assert sum(isinstance(event, SupervisorStarted) for event in events) == 1


async def test_it_draws_takes_keys_and_leaves_the_terminal_as_it_was(server: Server, recorded: Path) -> None:
    client = await server.login(*CONSOLE, "replay", str(recorded))
    await client.sees("▶ ")
    client.press(" ")
    await client.sees("‖ ")
    client.press("n")
    await client.sees("◆ ")
    client.press("\x1b[F")
    await client.sees("✓ succeeded")
    client.press("?")
    await client.sees("Help")
    client.press("\x1b")
    await client.sees("✓ succeeded")
    client.press("q")
    assert await client.end() == 0
    for sequence in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1004l"):
        assert client.output.count(sequence) >= 1
    assert b"\x1b[?1000h" not in client.output, "the mouse was never asked for"


async def test_the_size_of_the_window_reaches_it(server: Server, recorded: Path) -> None:
    client = await server.login(*CONSOLE, "replay", str(recorded))
    await client.sees("▶ ")
    client.resize(59, 14)
    await client.sees("59×14 is too small: needs 60×15")
    client.resize(120, 40)
    await client.sees(lambda picture: "q quit" in picture.splitlines()[-1])


async def test_a_run_does_not_notice_that_the_connection_broke(server: Server) -> None:
    paths = await start_run()
    client = await server.login(*CONSOLE, "attach", paths.run)
    await client.sees("waiting for approval")
    client.connection.abort()
    await client.session.ended
    assert is_locked(paths.lock), "the console ended, not the run"
    await check_nothing_noticed(paths)


async def test_a_reader_that_stops_keeps_nothing_but_its_picture_waiting(server: Server) -> None:
    paths = await start_run()
    client = await server.login(*CONSOLE, "attach", paths.run)
    await client.sees("waiting for approval")
    while not client.session.blocked:
        # Each is a whole picture.
        client.press("t")
        await asyncio.sleep(0.1)
    await check_nothing_noticed(paths)
    assert client.session.blocked, "nobody has read since"
    await client.sees("✓ succeeded")
    client.press("l")
    await client.sees("Log ─")
    client.press("q")
    assert await client.end() == 0


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A tmux of its own, as its users set it up."""
    program = shutil.which("tmux")
    if program is None:
        pytest.skip("tmux is not installed")
    settings = tmp_path / "tmux.conf"
    settings.write_text('set -g focus-events on\nset -g default-terminal "tmux-256color"\n')
    command = (program, "-S", str(tmp_path / "tmux"), "-f", str(settings))
    yield command
    subprocess.run([*command, "kill-server"], check=False, capture_output=True)


async def pane_shows(tmux: tuple[str, ...], words: str) -> None:
    """What tmux holds: what it sends to a terminal depends on the moment, and takes a whole terminal to be understood."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            capture = await asyncio.create_subprocess_exec(
                *tmux, "capture-pane", "-p", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            pane, _ = await capture.communicate()
            if words in pane.decode(errors="replace"):
                return
            await asyncio.sleep(0.05)


async def test_it_lives_on_in_a_tmux_that_is_left_and_found_again(
    server: Server, recorded: Path, tmux: tuple[str, ...]
) -> None:
    first = await server.login(*tmux, "new-session", *CONSOLE, "replay", str(recorded))
    await pane_shows(tmux, "▶ ")
    first.press(" ")
    await pane_shows(tmux, "‖ ")
    first.press("\x02d")
    assert await first.end() == 0
    second = await server.login(*tmux, "attach")
    await second.sees("samullm")
    second.press("\x1b[F")
    await pane_shows(tmux, "✓ succeeded")
    second.connection.abort()
    third: Client = await server.login(*tmux, "attach")
    await third.sees("succeeded")
    third.press("q")
    assert await third.end() == 0
