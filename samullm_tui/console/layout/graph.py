"""The application's graph as text: an indented forest, sources first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from samullm_tui.console.layout.gantt import Mark
from samullm_tui.console.layout.text import Line

__all__ = ["GraphNode", "graph_lines"]


class GraphNode(Struct, frozen=True):
    """A node with what to say beside it. `sources` name other nodes; without any it reads `data`."""

    name: str
    llm: str
    data: str
    sources: tuple[str, ...] = ()
    note: str = ""


def graph_lines(nodes: Sequence[GraphNode], marks: Mapping[str, Mark]) -> list[Line]:
    """One line for each data set and node. A node stands once, below its first source; others are named."""
    lines: list[Line] = []
    for data in dict.fromkeys(node.data for node in nodes if not node.sources):
        lines.append([(data, "bold")])
        roots = [node for node in nodes if not node.sources and node.data == data]
        for i, node in enumerate(roots):
            lines += _subtree(node, nodes, marks, "", last=i == len(roots) - 1)
    return lines


def _subtree(
    node: GraphNode, nodes: Sequence[GraphNode], marks: Mapping[str, Mark], indent: str, *, last: bool
) -> list[Line]:
    mark = marks.get(node.llm, Mark("?", 0))
    line: Line = [
        (f"{indent}{'└' if last else '├'}─▶ ", "hairline"),
        (mark.letter, f"{mark.text_style} bold"),
        (f" {node.name}", ""),
    ]
    others = node.sources[1:]
    notes = [f"with {', '.join(others)}"] if others else []
    notes += [node.note] if node.note else []
    if notes:
        line.append((f"  {' · '.join(notes)}", "dim"))
    children = [child for child in nodes if child.sources and child.sources[0] == node.name]
    below = indent + ("    " if last else "│   ")
    lines = [line]
    for i, child in enumerate(children):
        lines += _subtree(child, nodes, marks, below, last=i == len(children) - 1)
    return lines
