"""Promises 9, 11 and 12 on engines that are processes: whoever is killed, nobody is left, and the run is finished."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from crash_runs import Nursery, Tally, committed_rows, supervisor_pid, until
from faults import Fault
from msgspec.structs import replace

from samullm_tui.domain.event import EngineFailed, RunEnded
from samullm_tui.engines.processes import alive, descendants, marked, sweep
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.spec import RunPaths, read_spec, write_spec

MakeRun = Callable[..., RunPaths]
ENGINES = Path(__file__).parents[1] / "engines"
RECORDS = 400

pytestmark = pytest.mark.torture


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An interpreter that serves as vLLM does, with a grandchild in a session of its own that ignores SIGTERM."""
    (tmp_path / "config.json").write_text('{"core": true, "start": "wait"}')
    (tmp_path / "go").touch()
    script = tmp_path / "python"
    stubborn = f"{sys.executable} -I -S {ENGINES / 'keeper_stubborn.py'} orphan"
    script.write_text(f'#!/bin/sh\n{stubborn} &\nexec {sys.executable} {ENGINES / "fake_vllm.py"} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def paths(make_run: MakeRun) -> Iterator[RunPaths]:
    made = make_run(RECORDS)
    write_spec(made, replace(read_spec(made), engine="vllm"))
    yield made
    sweep(made.run, grace_s=0.0)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def keepers(run: str) -> list[int]:
    """The processes that have an engine's below them, and are not its own."""
    engine = set(marked(run))
    return sorted({parent for pid in engine if (parent := parent_of(pid)) not in engine and parent != 1})


def servers(run: str) -> list[int]:
    return [pid for pid in marked(run) if b"fake_vllm" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def engine_cores(run: str) -> list[int]:
    return [pid for pid in marked(run) if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()]


VICTIMS: dict[str, Callable[[RunPaths], list[int]]] = {
    "a server": lambda paths: servers(paths.run)[:1],
    "all servers": lambda paths: servers(paths.run),
    "a keeper": lambda paths: keepers(paths.run)[:1],
    "a keeper and its engine": lambda paths: [*descendants(keepers(paths.run)[0]), keepers(paths.run)[0]],
    "the supervisor": lambda paths: [supervisor_pid(paths)],
    "the supervisor and all keepers": lambda paths: [supervisor_pid(paths), *keepers(paths.run)],
}


def kill_in_the_middle(victim: str, paths: RunPaths, nursery: Nursery, fault: Fault) -> int:
    """One life, in which the victim is killed when some requests have ended. Returns how the supervisor ended."""
    ends: list[int] = []
    life = Thread(target=lambda: ends.append(nursery.live(paths, fault)))
    life.start()
    until(
        lambda: bool(ends) or (paths.outputs.exists() and len(paths.outputs.read_bytes().splitlines()) >= 30)
    )
    assert not ends, paths.log.read_text()
    assert len(keepers(paths.run)) == 2
    for pid in VICTIMS[victim](paths):
        os.kill(pid, signal.SIGKILL)
    life.join()
    return ends[0]


@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_is_killed_nobody_is_left_and_the_run_is_finished(
    paths: RunPaths, nursery: Nursery, python: str, tally: Tally, victim: str
) -> None:
    count = tally.of(f"SIGKILL of {victim}")
    count.faults += 1
    fault = Fault(python=python)
    ended = kill_in_the_middle(victim, paths, nursery, fault)
    assert ended == (-signal.SIGKILL if "supervisor" in victim else 0), paths.log.read_text()
    if victim == "the supervisor":
        until(lambda: marked(paths.run) == [])
    if ended:
        assert nursery.live(paths, fault) == 0, paths.log.read_text()
    else:
        assert [e for e in read_events(paths.journal) if isinstance(e, EngineFailed)], "an engine was lost"
    count.orphans += len(marked(paths.run))
    assert marked(paths.run) == []
    rows = Counter((row["node"], row["id"]) for row in committed_rows(paths))
    wanted = {(node, f"q{k}") for node in ("answer", "judge") for k in range(RECORDS)}
    count.lost += len(wanted - rows.keys())
    count.doubled += sum(rows.values()) - len(rows)
    assert rows == Counter(wanted)
    last = list(read_events(paths.journal))[-1]
    assert isinstance(last, RunEnded)
    assert last.status == "succeeded"
    count.survived += 1


def test_a_stop_in_the_middle_leaves_nobody(
    paths: RunPaths, nursery: Nursery, python: str, tally: Tally
) -> None:
    count = tally.of("stop in the middle")
    count.faults += 1
    ends: list[int] = []
    life = Thread(target=lambda: ends.append(nursery.live(paths, Fault(python=python))))
    life.start()
    until(lambda: len(servers(paths.run)) == 2)
    pids = marked(paths.run)
    ControlClient(paths).stop()
    life.join()
    assert ends == [0]
    count.orphans += sum(map(alive, pids))
    assert not any(map(alive, pids))
    count.survived += 1


# --- each victim in each state of the engines ---

ORPHANS_S = 10.0
ONE: dict[str, Callable[[RunPaths], int]] = {
    "the supervisor": supervisor_pid,
    "a keeper": lambda paths: keepers(paths.run)[0],
    "an API server": lambda paths: servers(paths.run)[0],
    "an engine core": lambda paths: engine_cores(paths.run)[0],
}


def processes_that_must_go(victim: str, pid: int, run: str) -> list[int]:
    """Those of the victim's engine; of a supervisor all engines."""
    if victim == "the supervisor":
        return marked(run)
    keeper = pid if victim == "a keeper" else next(k for k in keepers(run) if pid in descendants(k))
    return [p for p in descendants(keeper) if p in marked(run)]


def reach(state: str, paths: RunPaths, folder: Path, ends: list[int]) -> None:
    """Waits until both engines are in this state. Those that stop take as long as their grandchild that does not want to."""
    until(lambda: bool(ends) or len(engine_cores(paths.run)) == 2)
    if state != "loading":
        (folder / "go").touch()
        until(lambda: bool(ends) or (paths.outputs.exists() and paths.outputs.stat().st_size > 1000))
    if state == "stopping":
        ControlClient(paths).stop()
    assert not ends, paths.log.read_text()


@pytest.mark.parametrize("state", ["loading", "serving", "stopping"])
@pytest.mark.parametrize("victim", ONE)
def test_whoever_is_killed_in_whatever_state_nobody_is_left_after_ten_seconds(
    paths: RunPaths, nursery: Nursery, python: str, tally: Tally, victim: str, state: str
) -> None:
    count, folder = tally.of(f"SIGKILL of {victim}, {state}"), Path(python).parent
    count.faults += 1
    (folder / "go").unlink()
    ends: list[int] = []
    life = Thread(target=lambda: ends.append(nursery.live(paths, Fault(python=python))))
    life.start()
    reach(state, paths, folder, ends)
    pid = ONE[victim](paths)
    doomed = processes_that_must_go(victim, pid, paths.run)
    assert doomed
    os.kill(pid, signal.SIGKILL)
    began_s = time.monotonic()
    until(lambda: not any(map(alive, doomed)))
    count.orphans += sum(map(alive, doomed))
    assert time.monotonic() - began_s <= ORPHANS_S
    (folder / "go").touch()
    life.join()
    if ends[0] or state == "stopping":
        assert nursery.live(paths, Fault(python=python)) == 0, paths.log.read_text()
    assert marked(paths.run) == []
    rows = Counter((row["node"], row["id"]) for row in committed_rows(paths))
    wanted = Counter((node, f"q{k}") for node in ("answer", "judge") for k in range(RECORDS))
    count.lost += sum((wanted - rows).values())
    count.doubled += sum((rows - wanted).values())
    assert rows == wanted
    count.survived += 1
