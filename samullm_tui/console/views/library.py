"""The library: applications, runs and recordings on the left, the selected one on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.gantt import marks_of
from samullm_tui.console.layout.graph import GraphNode, graph_lines
from samullm_tui.console.layout.numbers import plural
from samullm_tui.console.layout.text import Line, columns, fit, heading, pad_line, styled, wrap
from samullm_tui.console.views.common import STATUS, note_lines, problem_lines, status_segment
from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import Problem

if TYPE_CHECKING:
    from samullm_tui.supervisor.runs import RunSummary

__all__ = ["Entry", "Preview", "RecordingHead", "library_body", "matching"]

GROUPS = (("application", "Applications"), ("run", "Runs"), ("recording", "Recordings"))
ENDED = frozenset({"succeeded", "failed"})
EMPTY = {
    "application": "no application files here",
    "run": "none yet: open an application, plan it, approve",
    "recording": "none",
}


class RecordingHead(Struct, frozen=True):
    """What the beginning and the end of a recording say."""

    run: str
    application: str
    cluster: str
    engine: str
    duration_s: float
    events: int
    decisions: int
    status: str


class Entry(Struct, frozen=True):
    """One line of the library."""

    kind: str
    name: str
    path: Path
    run: RunSummary | None = None


Preview = Application | RecordingHead | Sequence[Problem]
"""What is known of an entry: it read well, or what is wrong with it."""


def matching(entries: Sequence[Entry], text: str) -> list[Entry]:
    """The entries whose name, application or status contains `text`."""
    wanted = text.casefold()
    return [entry for entry in entries if wanted in _words(entry).casefold()]


def _words(entry: Entry) -> str:
    return f"{entry.name} {entry.run.application} {entry.run.status}" if entry.run else entry.name


def library_body(
    entries: Sequence[Entry],
    cursor: int,
    previews: Mapping[Path, Preview],
    width: int,
    height: int,
    field: str | None = None,
) -> list[Line]:
    """List and preview side by side. `field` is the filter, while there is one."""
    left = min(56, max(40, width * 9 // 20)) if width >= 76 else width // 2
    right = width - left - 3
    rows, at = _rows(entries, cursor, previews, left, field)
    top = max(0, min(at - height // 2, len(rows) - height))
    shown = rows[top : top + height]
    shown += [[] for _ in range(height - len(shown))]
    preview = _preview(entries[cursor], previews, right) if entries else []
    preview = [*preview[:height], *([[]] * max(0, height - len(preview)))]
    return [
        columns([([(" ", "")], 1), (a, left), ([("  ", "")], 2), (b, right)])
        for a, b in zip(shown, preview, strict=True)
    ]


def _rows(
    entries: Sequence[Entry], cursor: int, previews: Mapping[Path, Preview], width: int, field: str | None
) -> tuple[list[Line], int]:
    """All lines of the list, and the line of the cursor."""
    rows: list[Line] = []
    at = 0
    if field is not None:
        rows.append([("/", "accent"), (field, ""), ("▏", "accent")])
    for kind, title in GROUPS:
        group = [(i, entry) for i, entry in enumerate(entries) if entry.kind == kind]
        if field is not None and not group:
            continue
        rows.append(heading(title, width))
        if not group:
            rows.append([(f"  {EMPTY[kind]}", "dim")])
        for i, entry in group:
            if i == cursor:
                at = len(rows)
            rows.append(_row(entry, previews.get(entry.path), width, here=i == cursor))
        if kind != "recording":
            rows.append([])
    if field is not None and not entries:
        rows.append([("  nothing contains that; esc shows all", "dim")])
    return rows, at


def _row(entry: Entry, preview: Preview | None, width: int, *, here: bool) -> Line:
    pointer = ("▸ ", "accent") if here else ("  ", "")
    line = _run_row(entry.run, width - 2) if entry.run else _file_row(entry, preview, width - 2)
    whole = pad_line([pointer, *line], width)
    return styled(whole, "cursor") if here else whole


def _file_row(entry: Entry, preview: Preview | None, width: int) -> Line:
    note, style = _file_note(preview)
    return [(fit(entry.name, width - len(note) - 1), ""), (" ", ""), (note, style)]


def _file_note(preview: Preview | None) -> tuple[str, str]:
    if preview is None:
        return "", ""
    if isinstance(preview, Application):
        return f"{plural(len(preview.llms), 'LLM')}  {plural(len(preview.nodes), 'node'):>8}", "dim"
    if isinstance(preview, RecordingHead):
        return f"{preview.engine} {duration(preview.duration_s):>8}", "dim"
    return plural(len(preview), "problem"), "bad"


def _run_row(run: RunSummary, width: int) -> Line:
    glyph, style = STATUS.get(run.status, ("?", "dim"))
    note = f"{run.status}{_progress(run)}"
    return [(f"{glyph} ", style), (fit(run.run, width - len(note) - 3), ""), (" ", ""), (note, style)]


def _progress(run: RunSummary) -> str:
    """How far it is while that is open; what went wrong when it is not."""
    if run.status in ENDED:
        return f" {plural(run.errors, 'error')}" if run.errors else ""
    started = run.requests and run.status not in {"planning", "waiting for approval"}
    return f" {100 * (run.outputs + run.errors) // run.requests} %" if started else ""


# The preview


def _preview(entry: Entry, previews: Mapping[Path, Preview], width: int) -> list[Line]:
    title = heading(
        entry.name, width, {"application": "", "run": "run", "recording": "recording"}[entry.kind]
    )
    if entry.run is not None:
        return [title, *_run_preview(entry.run, width)]
    known = previews.get(entry.path)
    if known is None:
        return [title, [("reading …", "dim")]]
    if isinstance(known, Application):
        return [title, *_application_preview(known, width)]
    if isinstance(known, RecordingHead):
        return [title, *_recording_preview(known)]
    return [title, *problem_lines(known, width)]


def _application_preview(app: Application, width: int) -> list[Line]:
    marks = marks_of([llm.name for llm in app.llms])
    nodes = [GraphNode(n.name, n.llm, n.data, n.sources, _shape(n.chain, n.n)) for n in app.nodes]
    lines = note_lines(app.title, width) if app.title else []
    lines += [[], *graph_lines(nodes, marks), []]
    for llm in app.llms:
        mark = marks[llm.name]
        lines.append([(f"{mark.letter} ", f"{mark.text_style} bold"), (llm.name, "")])
    texts = "texts: runs on real engines" if app.has_texts else "lengths only: plans and simulated runs"
    return [*lines, [], [(texts, "dim")]]


def _shape(chain: str | None, n: int) -> str:
    parts = [f"chain over {chain}"] if chain else []
    parts += [f"×{n}"] if n > 1 else []
    return " ".join(parts)


def _run_preview(run: RunSummary, width: int) -> list[Line]:
    left = run.requests - run.outputs - run.errors
    lines: list[Line] = [
        [status_segment(run.status)],
        [],
        _pair("application", run.application),
        _pair("requests", f"{run.requests:,}"),
        _pair("outputs", f"{run.outputs:,}"),
        _pair("errors", f"{run.errors:,}", "bad" if run.errors else ""),
        _pair("left", f"{left:,}"),
    ]
    if run.pid is not None:
        lines.append(_pair("supervisor", f"pid {run.pid}, heard {duration(run.heartbeat_age_s)} ago"))
    if run.status == "interrupted":
        lines += [
            [],
            *note_lines("Its supervisor is gone. What is kept stays kept; r goes on from there.", width),
        ]
    return [*lines, [], *[[(line, "dim")] for line in wrap(str(run.directory), width)]]


def _recording_preview(head: RecordingHead) -> list[Line]:
    engine = "simulated engines" if head.engine == "simulated" else "real engines (vLLM)"
    return [
        [status_segment(head.status)],
        [],
        _pair("application", head.application),
        _pair("cluster", head.cluster),
        _pair("engines", engine),
        _pair("lasts", duration(head.duration_s)),
        _pair("decisions", f"{head.decisions:,}"),
        _pair("events", f"{head.events:,}"),
    ]


def _pair(name: str, value: str, style: str = "") -> Line:
    return [(f"{name:<13}", "dim"), (value, style)]
