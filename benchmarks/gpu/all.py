"""All pieces in order, each in a process of its own, within one budget; then one table of what there is.

What is measured already is not measured again: call it until nothing is missing. Before the first piece it looks for
what they need (benchmarks.gpu.check).
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys

from benchmarks.gpu.check import findings
from benchmarks.gpu.pieces import NOT_HERE, Piece, causes_of, read_part, table_text
from benchmarks.gpu.place import PIECE_S, Place, place_from
from benchmarks.gpu.verbs import end_runs
from benchmarks.table import print_table

PIECES = ("hardware", "iterations", "makespan", "starts", "application", "sharing", "dispatcher")
SLACK_S = 60.0
"""How long a piece may take beyond its budget: to end its engines, and to make its table."""


def main() -> None:
    place = place_from(__doc__ or "")
    missing = [finding for finding in findings(place) if finding.missing]
    for finding in missing:
        print(f"{finding.what}: {finding.found}. {finding.missing}")
    if missing:
        raise SystemExit(2)
    ended = {name: _run(place, name) for name in PIECES}
    pieces: list[Piece] = [importlib.import_module(f"benchmarks.gpu.{name}").PIECE for name in PIECES]
    tables = [_table(piece, place) for piece in pieces]
    (place.results / "README.md").write_text("\n".join(("# What was measured\n", *tables)))
    rows = [row for piece in pieces for row in _rows(place, piece, ended[piece.name])]
    print_table(f"pieces in {place.results.name}", ("piece", "part", "state"), rows)
    raise SystemExit(0 if all(state == DONE or state.startswith(NOT_HERE) for _, _, state in rows) else 1)


DONE = "measured"


def _table(piece: Piece, place: Place) -> str:
    """One piece whose measurements make no table does not hide those of the others."""
    try:
        return table_text(piece, place, causes_of(place, piece.name))
    except Exception as error:  # noqa: BLE001
        print(f"{piece.name}: no table: {type(error).__name__}: {error}")
        return f"### {piece.name}\n\nno table: {type(error).__name__}: {error}\n"


def _run(place: Place, name: str) -> str:
    """How the piece ended, "" where it ended by itself."""
    budget_s = min(PIECE_S, place.left_s)
    if budget_s < 1:
        return "not begun: the time is up"
    sized = ("--device", place.device, "--sizes", place.sizes, "--results", str(place.results))
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", *sized, "--budget-s", f"{budget_s:.0f}"]
    # A session of its own, so that its children end with it; engines end by their keepers, runs by their end.
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            status = process.wait(timeout=budget_s + SLACK_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            end_runs(place)
            return f"ended by force after {budget_s + SLACK_S:.0f} s"
    return "" if status in {0, 1} else f"ended with status {status}"


def _rows(place: Place, piece: Piece, ended: str) -> list[tuple[str, str, str]]:
    causes = causes_of(place, piece.name)
    rows = []
    for part in piece.parts(place):
        measured = read_part(place, piece.name, part.name) is not None
        state = DONE if measured else ended or causes.get(part.name, "not measured yet")
        rows.append((piece.name, part.name, state))
    return rows


if __name__ == "__main__":
    main()
