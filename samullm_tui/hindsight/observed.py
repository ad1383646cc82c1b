"""What a run showed, as arrays in the order of the simulator's requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.event import AnyEvent, EngineReady, RequestFinished, RequestRetried
from samullm_tui.domain.plan import Replica
from samullm_tui.domain.request import IntArray, RequestTable

__all__ = ["Observed", "observe"]

FloatArray = npt.NDArray[np.float64]
CUT = frozenset({"length", "abort", "error"})
"""Finish reasons of answers that did not end by themselves."""


@dataclass(frozen=True)
class Observed:
    """Of `n` requests; those without an answer have -1 tokens and engine -1.

    output_tokens, prompt_tokens  [n] as the engine counted them
    engine           [n] which of `engines` answered
    sent_s, finish_s [n] on the run's clock: handed to the engine, and the answer there
    loads            every start that succeeded, with its seconds
    disturbed        names of engines that also worked on requests whose answer came from elsewhere
    cut              [n] the answer did not end by itself
    """

    output_tokens: IntArray
    prompt_tokens: IntArray
    engine: IntArray
    sent_s: FloatArray
    finish_s: FloatArray
    engines: tuple[Replica, ...]
    loads: tuple[tuple[Replica, float], ...]
    disturbed: frozenset[str]
    cut: npt.NDArray[np.bool_]

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.output_tokens >= 1)


def observe(table: RequestTable, events: Iterable[AnyEvent]) -> Observed:
    """From a journal's events. Requests and engines that the table and the journal do not know are left out."""
    nodes = {name: number for number, name in enumerate(table.node_names)}
    index = {(int(table.node[i]), one): i for i, one in enumerate(table.ids)}
    n = len(table)
    counts = np.full((3, n), -1, np.int64)
    times = np.full((2, n), np.nan)
    engines: dict[str, int] = {}
    replicas: list[Replica] = []
    loads: list[tuple[Replica, float]] = []
    disturbed: set[str] = set()
    cut = np.zeros(n, np.bool_)
    for event in events:
        if isinstance(event, EngineReady):
            loads.append((event.replica, event.load_s))
            if event.replica.name not in engines:
                engines[event.replica.name] = len(replicas)
                replicas.append(event.replica)
        elif isinstance(event, RequestRetried):
            disturbed.add(event.replica)
        elif isinstance(event, RequestFinished):
            request = index.get((nodes.get(event.node, -1), event.id))
            if request is not None and event.output_tokens >= 1:
                engine = engines.get(event.replica, -1)
                counts[:, request] = event.output_tokens, event.prompt_tokens, engine
                times[:, request] = event.sent_s, event.at_s
                cut[request] = event.finish_reason in CUT
    return Observed(
        output_tokens=counts[0],
        prompt_tokens=counts[1],
        engine=counts[2],
        sent_s=times[0],
        finish_s=times[1],
        engines=tuple(replicas),
        loads=tuple(loads),
        disturbed=frozenset(disturbed),
        cut=cut,
    )
