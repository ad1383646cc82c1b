"""All pieces in order, each in a process of its own, within one budget; then what there is, and the tables.

What is measured already is not measured again: call it until nothing is missing. Before the first piece it looks for
what they need (benchmarks.gpu.check).
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.gpu.check import findings
from benchmarks.gpu.pieces import NOT_HERE, Part, Piece, causes_of, keep_logs, read_part, table_text
from benchmarks.gpu.place import PIECE_S, Place, place_from
from benchmarks.gpu.verbs import end_runs
from benchmarks.table import print_table
from samullm_tui.domain.errors import SamullmError

ALL = slice(None)
ORDER = (
    ("hardware", ALL),
    ("iterations", slice(1)),
    ("makespan", ALL),
    ("iterations", slice(1, 2)),
    ("application", ALL),
    ("dispatcher", ALL),
    ("starts", ALL),
    ("sharing", ALL),
    ("iterations", slice(2, None)),
)
"""Pieces, and which of their parts: where time is short, claims come first that were never held against a GPU."""
PIECES = ("hardware", "iterations", "starts", "makespan", "application", "sharing", "dispatcher")
SLACK_S = 60.0
"""How long a piece may take beyond its budget: to end its engines, and to make its table."""
DONE = "measured"

Ends = dict[tuple[str, str], str]
"""Of a piece's part: how the process ended that was to measure it, where it did not end by itself."""


def main() -> None:
    place = place_from(__doc__ or "")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    missing = [finding for finding in findings(place) if finding.missing]
    for finding in missing:
        print(f"{finding.what}: {finding.found}. {finding.missing}")
    if missing:
        raise SystemExit(2)
    pieces: dict[str, Piece] = {
        name: importlib.import_module(f"benchmarks.gpu.{name}").PIECE for name in PIECES
    }
    ends: Ends = {}
    for name, which in ORDER:
        left = _left(place, pieces[name], pieces[name].parts(place)[which])
        if left and (end := _run(place, name, left)):
            ends |= {(name, part.name): end for part in left}
    rows = [row for piece in pieces.values() for row in _rows(place, piece, ends)]
    print_table(f"pieces in {place.results.name}", ("piece", "part", "state"), rows)
    sys.stdout.flush()  # Tables may have to compile the simulator: the machine's own limit may come first.
    tables = [_table(piece, place) for piece in pieces.values()]
    (place.results / "README.md").write_text("\n".join(("# What was measured\n", *tables)))
    raise SystemExit(0 if all(state == DONE or state.startswith(NOT_HERE) for _, _, state in rows) else 1)


def _left(place: Place, piece: Piece, parts: Sequence[Part]) -> list[Part]:
    """Those of the parts that are not measured yet."""
    return [part for part in parts if read_part(place, piece.name, part.name) is None]


def _table(piece: Piece, place: Place) -> str:
    """One piece whose measurements make no table does not hide those of the others."""
    try:
        return table_text(piece, place, causes_of(place, piece.name))
    except Exception as error:  # noqa: BLE001
        print(f"{piece.name}: no table: {type(error).__name__}: {error}")
        return f"### {piece.name}\n\nno table: {type(error).__name__}: {error}\n"


def _run(place: Place, name: str, parts: Sequence[Part]) -> str:
    """How the piece ended, "" where it ended by itself."""
    budget_s = min(PIECE_S, place.left_s)
    if budget_s < max(1.0, min(part.needs_s for part in parts)):
        return "not begun: too little time is left"
    sized = ("--device", place.device, "--sizes", place.sizes, "--results", str(place.results))
    only = [word for part in parts for word in ("--only", part.name)]
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", *sized, *only, "--budget-s", f"{budget_s:.0f}"]
    since_s = time.time()
    # A session of its own, so that its children end with it; engines end by their keepers, runs by their end.
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            status = process.wait(timeout=budget_s + SLACK_S)
        except subprocess.TimeoutExpired:
            _end(place, process)
            logs = keep_logs(place, name, "ended-by-force", since_s)
            return f"ended by force after {budget_s + SLACK_S:.0f} s{logs}"
        except BaseException:  # Whoever calls it off calls off what it began.
            _end(place, process)
            raise
    return "" if status in {0, 1} else f"ended with status {status}"


def _end(place: Place, process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    try:
        end_runs(place)
    except SamullmError as error:
        print(f"runs may be left: {error}")


def _rows(place: Place, piece: Piece, ends: Ends) -> list[tuple[str, str, str]]:
    causes = causes_of(place, piece.name)
    rows = []
    for part in piece.parts(place):
        measured = read_part(place, piece.name, part.name) is not None
        why_not = ends.get((piece.name, part.name)) or causes.get(part.name, "not measured yet")
        rows.append((piece.name, part.name, DONE if measured else why_not))
    return rows


if __name__ == "__main__":
    main()
