"""The graph of nodes while it may still be wrong: order, cycles, and which data set each node's records come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

__all__ = ["data_of_nodes", "sources_first"]


def sources_first(sources: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """The nodes, sources before consumers and else in the order given; and the cycles, each with its first node
    repeated at its end. Nodes of a cycle are ordered as if the cycle's closing edge were not there.
    """
    edges = {node: list(takes) for node, takes in sources.items()}
    rank = {node: k for k, node in enumerate(edges)}
    cycles: list[list[str]] = []
    while True:
        sorter = TopologicalSorter(edges)
        try:
            sorter.prepare()
            break
        except CycleError as error:
            cycle: list[str] = error.args[1]
            cycles.append(cycle)
            edges[cycle[1]] = [node for node in edges[cycle[1]] if node != cycle[0]]
    order: list[str] = []
    while sorter:
        ready = sorted(sorter.get_ready(), key=rank.__getitem__)
        order += ready
        sorter.done(*ready)
    return order, cycles


def data_of_nodes(
    order: Sequence[str], sources: Mapping[str, Sequence[str]], direct: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """For each node the data sets that its records come from, its own first. One is right."""
    found: dict[str, tuple[str, ...]] = {}
    for node in order:
        names = list(direct[node])
        for source in sources[node]:
            names += found.get(source, ())
        found[node] = tuple(dict.fromkeys(names))
    return found
