"""Promise 22: in whatever state a run is, the first signal drains and the second stops; what is done stays usable."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from crash_runs import Tally, committed_rows, supervisor_pid, until
from msgspec.structs import replace

from samullm_tui.domain.errors import RunError
from samullm_tui.domain.event import ControlReceived, RequestRetried, RunEnded
from samullm_tui.journal.reader import read_events
from samullm_tui.journal.state import fold
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.launch import follow, spawn_supervisor
from samullm_tui.supervisor.liveness import is_locked
from samullm_tui.supervisor.runs import result, run_summary
from samullm_tui.supervisor.spec import RunPaths, read_spec, write_spec

MakeRun = Callable[..., RunPaths]
RECORDS = 600
STATES = ["planning", "waiting for approval", "loading", "serving", "paused", "draining"]
NOT_BEGUN = ("planning", "waiting for approval")


@pytest.fixture
def in_state(make_run: MakeRun) -> Iterator[Callable[[str], RunPaths]]:
    """A run with its supervisor, brought into a state. Loading takes seconds and serving many at these speeds."""
    made: list[RunPaths] = []

    def bring(state: str) -> RunPaths:
        options = {
            # Without a plan it searches for one, which takes seconds.
            "planning": {"plan": None, "samples": 100},
            "waiting for approval": {"approved": False},
            "loading": {"speed": 0.05},
        }
        paths = make_run(RECORDS, **options.get(state, {"speed": 10.0}))  # type: ignore[arg-type]
        made.append(paths)
        spawn_supervisor(paths.run)
        client = ControlClient(paths)
        if state in NOT_BEGUN:
            until(lambda: client.status().status == state)
        elif state == "loading":
            until(
                lambda: any(r.status == "loading" for r in fold(read_events(paths.journal)).replicas.values())
            )
        else:
            until(lambda: client.status().outputs >= 20)
        if state in {"paused", "draining"}:
            (client.pause if state == "paused" else client.drain)()
        return paths

    yield bring
    for paths in made:
        if is_locked(paths.lock):
            os.kill(supervisor_pid(paths), signal.SIGKILL)


def drains(paths: RunPaths) -> bool:
    """Or it has drained, and its supervisor is gone."""
    with suppress(RunError):
        return ControlClient(paths).status().status == "draining"
    return not is_locked(paths.lock)


@pytest.mark.torture
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("signals", [1, 2])
def test_signals_end_a_run_in_every_state_and_it_goes_on_from_there(
    in_state: Callable[[str], RunPaths], tally: Tally, state: str, signals: int
) -> None:
    count = tally.of(f"{signals} × SIGINT")
    count.faults += 1
    paths = in_state(state)
    pid = supervisor_pid(paths)
    for _ in range(signals):
        if is_locked(paths.lock):
            os.kill(pid, signal.SIGINT)
        until(lambda: drains(paths))
    check_ended(paths, signals)
    kept = committed_rows(paths)
    assert (len(kept) > 0) == (state in {"serving", "paused", "draining"})
    client = ControlClient(paths)
    write_spec(paths, replace(read_spec(paths), speed="max"))
    spawn_supervisor(paths.run)
    if state == "waiting for approval":
        until(lambda: client.status().status == state)
        client.approve(1)
    for _ in follow(paths.run):
        pass
    assert result(paths.run).status == "succeeded"
    rows = committed_rows(paths)
    count.lost += 2 * RECORDS - len({(row["node"], row["id"]) for row in rows})
    count.doubled += len(rows) - len({(row["node"], row["id"]) for row in rows})
    assert rows[: len(kept)] == kept
    assert len({(row["node"], row["id"]) for row in rows}) == len(rows) == 2 * RECORDS
    count.survived += 1


def check_ended(paths: RunPaths, signals: int) -> None:
    """The first drains: nothing in flight is given up. The second gives it up, if anything is left by then."""
    events = list(follow(paths.run))
    assert isinstance(events[-1], RunEnded)
    assert events[-1].status == run_summary(paths.run).status == "stopped"
    told = [event.command for event in events if isinstance(event, ControlReceived) and event.by == "SIGINT"]
    assert told == ["drain", "stop"][: len(told)]
    assert told
    if signals == 1:
        assert not [event for event in events if isinstance(event, RequestRetried)]
