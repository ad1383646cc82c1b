"""Promise: no process of an engine outlives its run, whoever is killed first."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import keeper_owner as owner
import keeper_stubborn as stubborn
import pytest

from samullm_tui.domain.errors import EngineStartError
from samullm_tui.engines.kept_process import KeptProcess
from samullm_tui.engines.processes import COOKIE, alive, descendants, marked, sweep

DEADLINE_S = 30.0


def until(what: Callable[[], bool]) -> bool:
    """Polls until `what` holds; False when it does not within the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not what():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


async def until_async(what: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(until, what)


@pytest.fixture
def cookie() -> Iterator[str]:
    """A cookie of its own for each test; what a failed test leaves is swept."""
    name = f"test-{uuid.uuid4().hex}/tiny.0/1"
    yield name
    sweep(name, grace_s=0.0)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
async def process(cookie: str, tmp_path: Path) -> AsyncIterator[KeptProcess]:
    argv = [sys.executable, "-I", "-S", str(owner.STUBBORN), "root"]
    kept = await KeptProcess.start(argv, {COOKIE: cookie}, tmp_path / "log", cookie, grace_s=0.3)
    assert await until_async(lambda: len(marked(cookie)) == stubborn.PROCESSES)
    yield kept
    await kept.stop()


async def test_stop_ends_children_that_ignore_sigterm_or_changed_session(
    process: KeptProcess, cookie: str
) -> None:
    pids = marked(cookie)
    await process.stop()
    assert marked(cookie) == []
    assert not any(alive(pid) for pid in pids)


async def test_when_the_process_dies_the_exit_is_told_and_its_orphans_are_ended(
    process: KeptProcess, cookie: str
) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert await process.exited() == -signal.SIGKILL
    await process.gone()
    assert marked(cookie) == []


async def test_when_the_keeper_is_killed_the_owner_ends_what_it_kept(
    process: KeptProcess, cookie: str
) -> None:
    assert process.pid is not None
    keeper = parent_of(process.pid)
    assert len(descendants(keeper)) == stubborn.PROCESSES, "the keeper adopts orphans"
    os.kill(keeper, signal.SIGKILL)
    assert await process.exited() is None
    await process.gone()
    assert marked(cookie) == []


async def test_a_keeper_asked_to_terminate_ends_what_it_keeps(process: KeptProcess, cookie: str) -> None:
    assert process.pid is not None
    os.kill(parent_of(process.pid), signal.SIGTERM)
    await process.gone()
    assert marked(cookie) == []


async def test_the_keeper_lives_in_a_session_of_its_own_and_is_no_child(process: KeptProcess) -> None:
    assert process.pid is not None
    keeper = parent_of(process.pid)
    assert os.getsid(keeper) != os.getsid(0)
    assert parent_of(keeper) != os.getpid()


async def test_the_log_is_for_the_owner_alone(process: KeptProcess, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


async def test_shared_memory_and_scratch_folder_of_a_killed_process_are_removed(
    cookie: str, tmp_path: Path
) -> None:
    scratch, ready = tmp_path / "scratch", tmp_path / "ready"
    scratch.mkdir()
    script = (
        "import os, signal, sys, time\n"
        "from multiprocessing import resource_tracker, shared_memory\n"
        "resource_tracker.register = lambda *_: None\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "memory = shared_memory.SharedMemory(create=True, size=4096)\n"
        "open(sys.argv[1], 'w').write(memory.name)\n"
        "os.rename(sys.argv[1], sys.argv[2])\n"
        "time.sleep(3600)\n"
    )
    argv = [sys.executable, "-I", "-c", script, str(scratch / "name"), str(ready)]
    process = await KeptProcess.start(
        argv, {COOKIE: cookie}, tmp_path / "log", cookie, grace_s=0.0, scratch=scratch
    )
    assert await until_async(ready.exists)
    memory = Path("/dev/shm") / ready.read_text()
    assert memory.exists()
    await process.stop()
    assert not memory.exists()
    assert not scratch.exists()


async def test_a_program_that_does_not_exist_is_an_error_with_its_name(cookie: str, tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match="no-such-program: No such file"):
        await KeptProcess.start(["no-such-program"], {}, tmp_path / "log", cookie)


async def test_the_exit_status_is_the_programs_own(cookie: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", "-c", "raise SystemExit(7)"]
    process = await KeptProcess.start(argv, {COOKIE: cookie}, tmp_path / "log", cookie)
    assert await process.exited() == 7
    await process.gone()


async def test_a_start_that_is_cancelled_leaves_nothing(cookie: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(owner.STUBBORN), "root"]
    for delay_s in (0.0, 0.01, 0.03, 0.06):
        starting = asyncio.create_task(
            KeptProcess.start(argv, {COOKIE: cookie}, tmp_path / "log", cookie, grace_s=0.0)
        )
        await asyncio.sleep(delay_s)
        starting.cancel()
        (outcome,) = await asyncio.gather(starting, return_exceptions=True)
        if isinstance(outcome, KeptProcess):
            await outcome.stop()
        assert marked(cookie) == []


def start_owner(cookie: str, log: Path) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, str(Path(owner.__file__)), cookie, str(log)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.stdout.close()
    assert until(lambda: len(marked(cookie)) == stubborn.PROCESSES)
    return process, pid


def test_a_sigkill_of_the_owner_ends_everything(cookie: str, tmp_path: Path) -> None:
    process, pid = start_owner(cookie, tmp_path / "log")
    keeper = parent_of(pid)
    process.kill()
    process.wait()
    assert until(lambda: marked(cookie) == [])
    assert until(lambda: not alive(keeper))


def test_the_next_start_sweeps_what_survived_owner_and_keeper(cookie: str, tmp_path: Path) -> None:
    process, pid = start_owner(cookie, tmp_path / "log")
    keeper = parent_of(pid)
    os.kill(process.pid, signal.SIGSTOP)  # Else it would replace the keeper.
    os.kill(keeper, signal.SIGKILL)
    process.kill()
    process.wait()
    left = marked(cookie)
    assert len(left) == stubborn.PROCESSES
    run = cookie.partition("/")[0]
    assert sweep(run[:-1], grace_s=0.0) == [], "another run whose name begins alike is not this one"
    assert set(sweep(run, grace_s=0.3)) >= set(left)
    assert marked(cookie) == []
