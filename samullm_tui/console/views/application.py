"""One application: its graph, its LLMs, its requests, the cluster, and every problem found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from samullm_tui.console.layout.gantt import Mark, marks_of
from samullm_tui.console.layout.graph import GraphNode, graph_lines
from samullm_tui.console.layout.numbers import plural
from samullm_tui.console.layout.text import Line, fit, heading, wrap
from samullm_tui.console.sources import Place
from samullm_tui.console.views.common import note_lines, problem_lines
from samullm_tui.domain.application import LLM, Application, DataSet, Node
from samullm_tui.domain.errors import Problem

__all__ = ["ApplicationView", "application_lines"]


class ApplicationView(Struct, frozen=True):
    """`requests` of each node, as far as counted; `working` says what is still under way."""

    application: Application | None
    requests: Mapping[str, int]
    problems: Sequence[Problem]
    place: Place | None
    working: str = ""


def application_lines(view: ApplicationView, width: int) -> list[Line]:
    """All lines; the screen scrolls them."""
    inner = width - 2
    lines = _problems(view, inner)
    app = view.application
    if app is not None:
        marks = marks_of([llm.name for llm in app.llms])
        lines += [*note_lines(app.title, inner, ""), []] if app.title else []
        lines += [
            heading("Graph", inner, view.working or _total(view.requests)),
            *_graph(app, view.requests, marks),
            [],
        ]
        lines += [heading("LLMs", inner), *(_llm(llm, marks[llm.name], inner) for llm in app.llms), []]
        lines += [heading("Data", inner), *(_data(data) for data in app.data), []]
        lines += [heading("Where it would run", inner), *_place(view.place, app, inner)]
    elif view.working:
        lines.append([(view.working, "dim")])
    return [[(" ", ""), *line] for line in lines]


def _problems(view: ApplicationView, width: int) -> list[Line]:
    if not view.problems:
        return []
    title = heading(plural(len(view.problems), "problem"), width, view.problems[0].file)
    return [title, *problem_lines(view.problems, width), []]


def _total(requests: Mapping[str, int]) -> str:
    return plural(sum(requests.values()), "request") if requests else ""


def _graph(app: Application, requests: Mapping[str, int], marks: Mapping[str, Mark]) -> list[Line]:
    nodes = [
        GraphNode(node.name, node.llm, node.data, node.sources, _note(node, requests)) for node in app.nodes
    ]
    return graph_lines(nodes, marks)


def _note(node: Node, requests: Mapping[str, int]) -> str:
    parts = [f"chain over {node.chain}"] if node.chain else []
    parts += [f"where {node.where.field} = {node.where.equals}"] if node.where else []
    parts += [f"×{node.n}"] if node.n > 1 else []
    parts += ["one for each source"] if node.join == "any" else []
    parts += [plural(requests[node.name], "request")] if node.name in requests else []
    return " · ".join(parts)


def _llm(llm: LLM, mark: Mark, width: int) -> Line:
    known = [f"context {llm.context:,}" if llm.context else ""]
    known += [f"tp {' or '.join(map(str, llm.tp))}" if llm.tp else ""]
    known += [f"{key} {value}" for key, value in llm.engine.items()]
    name = min(24, max(12, width // 4))
    return [
        (mark.letter, f"{mark.text_style} bold"),
        (f" {fit(llm.name, name)} ", ""),
        (fit("" if llm.checkpoint == llm.name else llm.checkpoint, min(44, width * 2 // 5)), "dim"),
        ("  " + ", ".join(part for part in known if part), ""),
    ]


def _data(data: DataSet) -> Line:
    if data.synthetic is not None:
        records = data.synthetic.get("records")
        what = (
            f"synthetic: lengths only, {records:,} records"
            if isinstance(records, int)
            else "synthetic: lengths only"
        )
    else:
        what = data.file or ""
    return [(f"{data.name}  ", ""), (what, "dim")]


def _place(place: Place | None, app: Application, width: int) -> list[Line]:
    if place is None:
        return [[("looking at this machine …", "dim")]]
    engines = "real engines (vLLM)" if place.engine == "vllm" else "simulated engines: no LLM is loaded"
    lines: list[Line] = [[(place.title, ""), (f"   {engines}", "dim")]]
    if place.engine == "vllm" and not app.has_texts:
        lines += note_lines(
            "Its data have lengths only: it can be planned and simulated, not run on real engines.",
            width,
            "warning",
        )
    return lines + [[(line, "dim")] for note in place.notes for line in wrap(note, width)]
