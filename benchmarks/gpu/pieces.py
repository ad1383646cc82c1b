"""A piece: parts that are each measured once and kept as JSON, and the table that is made of what there is.

What is kept are measured values; predictions and errors are computed for the table, every time it is made: with a
better simulator, or on another machine, the same measurements make another table.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.gpu.facts import facts_of
from benchmarks.gpu.place import Place, place_from
from benchmarks.table import print_table
from samullm_tui.domain.errors import SamullmError

__all__ = [
    "NOT_HERE",
    "Found",
    "NotHere",
    "Part",
    "Piece",
    "Table",
    "causes_of",
    "keep_logs",
    "main",
    "part_file",
    "read_part",
    "table_text",
]

NOT_HERE = "not here: "
"""So begins the cause of what this device cannot do: it is no failure."""

LOGS, LOG_BYTES = 8, 64 * 1024
"""Of what failed so many logs are kept, the newest, and of each its end."""

Found = dict[str, Any]
"""What one part measured, as it stands in its JSON."""


class NotHere(Exception):  # noqa: N818  (it is no error)
    """This device cannot do it, or something that it builds upon is missing. Its text says which."""


@dataclass(frozen=True)
class Part:
    """`needs_s`: it is not begun with less of the budget left."""

    name: str
    measure: Callable[[], Found]
    needs_s: float = 0.0


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Piece:
    """`parts` of a place in order; `table` of what was found, by part."""

    name: str
    about: str
    parts: Callable[[Place], Sequence[Part]]
    table: Callable[[Place, Mapping[str, Found]], Table]


def main(piece: Piece) -> None:
    """Measures what is not there yet, then prints the table: not when the time is up, a table may have to compile the
    simulator first. Exit status 1 when a part failed or is left.
    """
    place = place_from(piece.about)
    asked = [part for part in piece.parts(place) if not place.only or part.name in place.only]
    causes = {part.name: cause for part in asked if (cause := _measured(piece, part, place))}
    all_causes = {**causes_of(place, piece.name), **causes}
    _write(_causes_file(place, piece.name), msgspec.json.encode(all_causes))
    if place.left_s > 0:
        text = table_text(piece, place, all_causes)
        _write(place.results / f"{piece.name}.md", text.encode())
    for part, cause in causes.items():
        print(f"{piece.name}, {part}: {cause}")
    raise SystemExit(1 if any(not cause.startswith(NOT_HERE) for cause in causes.values()) else 0)


def _measured(piece: Piece, part: Part, place: Place) -> str:
    """Why it is not measured; "" when it is."""
    file = part_file(place, piece.name, part.name)
    if file.exists():
        return ""
    if place.left_s < max(part.needs_s, 1.0):
        return f"not measured yet: it takes {part.needs_s:.0f} s, {max(place.left_s, 0):.0f} s are left"
    print(f"{piece.name}, {part.name}: measuring", flush=True)
    began_s, since_s = time.monotonic(), time.time()
    try:
        found = part.measure()
    except NotHere as error:
        return f"{NOT_HERE}{error}"
    except Exception as error:  # noqa: BLE001  (one part that fails is a row, not the end of the others)
        logs = keep_logs(place, piece.name, part.name, since_s)
        if isinstance(error, SamullmError):
            return f"failed: {error}{logs}"
        traceback.print_exc()
        return f"failed: {type(error).__name__}: {error}{logs}"
    took_s = time.monotonic() - began_s
    kept = {
        "piece": piece.name,
        "part": part.name,
        "sizes": place.sizes,
        "took_s": round(took_s, 1),
        "facts": facts_of(place.device),
        "found": found,
    }
    _write(file, msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    file.with_suffix(".log").unlink(missing_ok=True)
    return ""


def keep_logs(place: Place, piece: str, part: str, since_s: float) -> str:
    """Puts the ends of what engines and runs logged since then beside the results: the machine may be gone tomorrow.

    Returns what to say of it.
    """
    profiled = Path(tempfile.gettempdir()).glob("samullm-profile-*/*.log")
    written = [(log.stat().st_mtime, log) for log in (*place.work.rglob("*.log"), *profiled)]
    newest = [log for at_s, log in sorted(written)[-LOGS:] if at_s >= since_s]
    if not newest:
        return ""
    kept = part_file(place, piece, part).with_suffix(".log")
    _write(
        kept, b"".join(b"== %s\n%s\n" % (log.name.encode(), log.read_bytes()[-LOG_BYTES:]) for log in newest)
    )
    return f" ({kept.name})"


def part_file(place: Place, piece: str, part: str) -> Path:
    """Letters, digits and dashes only: some ways to fetch files take no others."""
    return place.results / f"{piece}.{re.sub('[^A-Za-z0-9.]+', '-', part)}.json"


def read_part(place: Place, piece: str, part: str) -> Found | None:
    """What was measured, or None."""
    file = part_file(place, piece, part)
    if not file.exists():
        return None
    found: Found = msgspec.json.decode(file.read_bytes())["found"]
    return found


def table_text(piece: Piece, place: Place, causes: Mapping[str, str] | None = None) -> str:
    """Prints the table; returns it as Markdown, with what it was measured on and what is missing."""
    names = [part.name for part in piece.parts(place)]
    found = {name: part for name in names if (part := read_part(place, piece.name, name)) is not None}
    table = piece.table(place, found)
    provenance = _provenance(piece, place, names)
    print_table(table.title, table.header, table.rows)
    print(*provenance, sep="\n")
    lines = [f"### {table.title}", "", *(f"{line}\n" for line in provenance)]
    lines += _row(table.header), _row(["---"] * len(table.header)), *(_row(row) for row in table.rows)
    lines += [f"\n{name}: {cause}" for name, cause in (causes or {}).items()]
    return "\n".join(lines) + "\n"


def _provenance(piece: Piece, place: Place, names: Sequence[str]) -> list[str]:
    """One line for each set of facts that parts were measured under."""
    lines: dict[str, list[str]] = {}
    for name in names:
        file = part_file(place, piece.name, name)
        if file.exists():
            kept = msgspec.json.decode(file.read_bytes())
            facts = kept["facts"]
            driver = f", driver {facts['driver']}" if facts["driver"] else ""
            on = f"{facts['device']}{driver}, vLLM {facts['vllm']}, PyTorch {facts['torch']}, {facts['date']}"
            what = "measured"
            if kept["sizes"] == "small":
                what = "a rehearsal in small sizes, no figure of anything,"
            lines.setdefault(f"{what} on {on}", []).append(name)
    return [f"{on}: {', '.join(names)}." for on, names in lines.items()]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def causes_of(place: Place, piece: str) -> dict[str, str]:
    """What was tried and could not be measured, by part."""
    file = _causes_file(place, piece)
    causes = msgspec.json.decode(file.read_bytes(), type=dict[str, str]) if file.exists() else {}
    return {part: cause for part, cause in causes.items() if not part_file(place, piece, part).exists()}


def _causes_file(place: Place, piece: str) -> Path:
    place.work.mkdir(parents=True, exist_ok=True)
    return place.work / f"{piece}.causes.json"


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a command may be ended at any moment."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_bytes(content)
    beside.replace(path)
