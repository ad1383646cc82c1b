"""The runs that are crashed, and what must be true of them whatever happened."""

from __future__ import annotations

import operator
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
from faults import Fault
from nursery import Death, Order

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import AnyEvent, RequestFailed, RequestFinished, RunEnded, SupervisorStarted
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.journal.reader import read_events
from samullm_tui.supervisor.export import export_rows
from samullm_tui.supervisor.launch import create_run
from samullm_tui.supervisor.liveness import read_heartbeat
from samullm_tui.supervisor.spec import RunPaths, existing_run

__all__ = [
    "RECORDS",
    "Count",
    "Nursery",
    "Tally",
    "check_run",
    "committed_rows",
    "count_repeats",
    "ends_of",
    "make_application",
    "supervisor_pid",
    "until",
]

RECORDS = 60

APPLICATION = (Path(__file__).parents[1] / "supervisor" / "small.toml").read_text()

PLAN = Plan(
    planner="given",
    stages=(
        Stage((Placement("llama", 1, 1, (0,)), Placement("qwen3", 1, 1, (1,))), ("llama",)),
        Stage((Placement("qwen3", 1, 2, (1, 0)),), ("qwen3",)),
    ),
)


def make_application(folder: Path, records: int, **options: object) -> RunPaths:
    """A run, approved and simulated at full speed unless told otherwise, of an application in `folder`.

    Its data are those that stand there already, if any do.
    """
    lines = (f'{{"id": "q{k}", "question": "What is {k} times {k}?"}}\n' for k in range(records))
    if not (folder / "questions.jsonl").exists():
        (folder / "questions.jsonl").write_text("".join(lines))
    (folder / "small.toml").write_text(APPLICATION)
    given = {"approved": True, "samples": 1, "speed": "max", "plan": PLAN, **options}
    run = create_run(folder / "small.toml", cluster_from_preset("cpu:2"), "simulated", **given)  # type: ignore[arg-type]
    return existing_run(run)


class Nursery:
    """Asks the nursery's process for supervisors, one after another."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def live(self, paths: RunPaths, fault: Fault) -> int:
        """One life of a supervisor of this run. Returns its exit status, or minus the signal that ended it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode(Order(str(paths.folder), fault)) + b"\n")
        stdin.flush()
        return msgspec.json.decode(stdout.readline(), type=Death).status


@dataclass
class Count:
    """What came of one kind of fault.

    `repeated`: requests sent again by the next supervisor, none of which had a committed row; at most `in_flight`: those
    that the dead ones had sent and not committed.
    """

    faults: int = 0
    survived: int = 0
    lost: int = 0
    doubled: int = 0
    in_flight: int = 0
    repeated: int = 0
    orphans: int = 0

    def plus(self, other: Count) -> Count:
        return Count(*map(operator.add, astuple(self), astuple(other)))


@dataclass
class Tally:
    """Counts for each kind of fault, for the table at the end."""

    kinds: dict[str, Count] = field(default_factory=dict)

    def of(self, kind: str) -> Count:
        return self.kinds.setdefault(kind, Count())

    @property
    def total(self) -> Count:
        return reduce(Count.plus, self.kinds.values(), Count())

    def add(self, other: Tally) -> None:
        """Counts what another worker tried."""
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.of(kind).plus(count)

    def lines(self) -> list[str]:
        if not self.kinds:
            return []
        header = ("fault", "tried", "survived", "lost", "doubled", "in flight", "repeated", "orphans")
        rows = [
            (kind, *(f"{number:,}" for number in astuple(c)))
            for kind, c in (*self.kinds.items(), ("all", self.total))
        ]
        widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
        return [
            "",
            *(
                "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
                for row in (header, *rows)
            ),
        ]


def until(happened: Callable[[], bool]) -> None:
    """Waits for something that will surely happen; how long it takes is the machine's business."""
    deadline_s = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)


def supervisor_pid(paths: RunPaths) -> int:
    heartbeat = read_heartbeat(paths.heartbeat)
    assert heartbeat is not None
    return heartbeat.pid


def committed_rows(paths: RunPaths) -> list[dict[str, Any]]:
    return list(export_rows(paths.run))


def check_run(paths: RunPaths, expected: dict[str, Counter[Any]], count: Count) -> None:
    """The run has ended with exactly what the uninterrupted one has, and never did again what was committed."""
    events = list(read_events(paths.journal))
    assert isinstance(events[-1], RunEnded)
    found = ends_of(paths, events)
    count.lost += sum((expected["ended"] - found["ended"]).values())
    count.doubled += sum((found["ended"] - expected["ended"]).values())
    for what, ends in expected.items():
        assert (sorted(ends - found[what]), sorted(found[what] - ends)) == ([], []), what
    times = [event.at_s for event in events]
    assert times == sorted(times), "the run's clock went back"
    records = sum(event.requests for event in events[0].nodes[:1])  # type: ignore[union-attr]
    names = [(node, f"q{k}") for node in ("answer", "judge") for k in range(records)]
    count_repeats(paths, events, names, count)


def ends_of(paths: RunPaths, events: list[AnyEvent]) -> dict[str, Counter[Any]]:
    """The requests that ended, by the journal, by the export and by the files."""
    finished = [e for e in events if isinstance(e, RequestFinished)]
    failed = [e for e in events if isinstance(e, RequestFailed)]
    rows = [msgspec.json.decode(line) for line in paths.outputs.read_bytes().splitlines()]
    errors = [msgspec.json.decode(line) for line in paths.errors.read_bytes().splitlines()]
    assert committed_rows(paths) == rows, "the file holds exactly the committed rows"
    assert [(e["node"], e["id"]) for e in errors] == [(e.node, e.id) for e in failed]
    return {
        "ended": Counter((e.node, e.id) for e in (*finished, *failed)),
        "outputs": Counter((row["node"], row["id"], row["output_tokens"]) for row in rows),
        # "refused: …" names the replica, which may be another one in another life.
        "errors": Counter((row["node"], row["id"], row["error"].partition(":")[0]) for row in errors),
    }


def count_repeats(
    paths: RunPaths, events: list[AnyEvent], names: list[tuple[str, str]], count: Count
) -> None:
    """What was in flight when a supervisor died, and what of it the next one sent again; a committed request never is.

    `names`: (node, id) of each request, by its index.
    """
    sent: dict[int, set[tuple[str, str]]] = {}
    for line in (paths.folder / "sends").read_text().splitlines():
        pid, index = map(int, line.split())
        sent.setdefault(pid, set()).add(names[index])
    done: set[tuple[str, str]] = set()
    before: set[tuple[str, str]] = set()
    own: set[tuple[str, str]] = set()
    for event in events:
        if isinstance(event, SupervisorStarted):
            in_flight = own - done
            own = sent.get(event.pid, set())
            assert not own & done, "a committed request was sent again"
            before |= in_flight
            repeated = own & before
            count.in_flight += len(in_flight)
            count.repeated += len(repeated)
            before -= repeated
        elif isinstance(event, RequestFinished | RequestFailed):
            done.add((event.node, event.id))
