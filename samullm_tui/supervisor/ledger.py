"""Where each request of a run stands: waiting for sources, ready, sent, done or failed. No clock, no engine.

Every request ends exactly once. Only the answer to a request's latest sending counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.supervisor.lanes import Lanes
from samullm_tui.supervisor.suspects import Suspects, Verdict

__all__ = ["DONE", "READY", "SENT", "Finish", "Ledger", "Sent"]

WAITING, READY, SENT, DONE, FAILED = range(5)


class Finish(NamedTuple):
    """How a request got its output. `cut`: by max_tokens or the context, so that it might have been longer."""

    output_tokens: int
    at_s: float = 0.0
    cut: bool = False


class Sent:
    """A request in flight: to which replica, as which sending, at what time."""

    __slots__ = ("replica", "sent_s", "serial")

    def __init__(self, replica: str, serial: int, sent_s: float) -> None:
        self.replica = replica
        self.serial = serial
        self.sent_s = sent_s


class Ledger:
    """The requests of `table`. `expected` [n]: output tokens to expect, for balancing only.

    unfinished  open requests of each LLM
    lanes       where the ready ones wait, and what each replica has
    suspects    the open requests that engines died with
    finish_s    [n] when each got its output, NaN before; `output_tokens` [n] and `cut` [n] are of these too
    """

    def __init__(
        self,
        table: RequestTable,
        expected: IntArray,
        done: Iterable[tuple[int, Finish]],
        failed: Iterable[int],
    ) -> None:
        """`done`: the requests that are finished already; `failed`: those with an error row."""
        self.table = table
        self.status = bytearray(len(table))
        self.output_tokens: IntArray = np.zeros(len(table), dtype=np.int64)
        self.finish_s: npt.NDArray[np.float64] = np.full(len(table), np.nan)
        self.cut: npt.NDArray[np.bool_] = np.zeros(len(table), dtype=np.bool_)
        self.in_flight: dict[int, Sent] = {}
        self.failures: dict[int, int] = {}
        self.suspects = Suspects()
        self._serial = 0
        self._children_start, self._children = _children(table)
        for index, finish in done:
            self.status[index] = DONE
            self._keep(index, finish)
        for index in failed:
            self.status[index] = FAILED
        status = np.frombuffer(bytes(self.status), dtype=np.uint8)
        pending = np.concatenate([[0], np.cumsum(status[table.parents] != DONE)])
        self._parents_left: IntArray = pending[table.parent_start[1:]] - pending[table.parent_start[:-1]]
        is_open = status == WAITING
        counts = np.bincount(table.llm[is_open], minlength=len(table.llm_names))
        self.unfinished: dict[str, int] = dict(zip(table.llm_names, counts.tolist(), strict=True))
        self.lanes = Lanes(table, expected, is_open, self.llm)
        ready = np.flatnonzero(is_open & (self._parents_left == 0))
        for index in self.lanes.longest_first(ready):
            self._make_ready(index)

    def orphans(self) -> list[tuple[int, int]]:
        """Fails what a crash left open behind failed sources: (request, failed source), sources first."""
        failed = [index for index, status in enumerate(self.status) if status == FAILED]
        return [pair for index in failed for pair in self._fail_dependents(index)]

    @property
    def open_requests(self) -> int:
        return sum(self.unfinished.values())

    def llm(self, index: int) -> str:
        name: str = self.table.llm_names[self.table.llm[index]]
        return name

    def has_ready(self, llm: str) -> bool:
        lanes = self.lanes
        return bool(lanes.queues[llm] or lanes.trials[llm]) or any(
            lane.kept for lane in lanes.of.values() if lane.llm == llm
        )

    def is_open(self, index: int) -> bool:
        return self.status[index] < DONE

    def prompt_tokens(self, index: int) -> int:
        """Of template and record and the outputs that the prompt takes in; those must be finished."""
        start, end = self.table.parent_start[index], self.table.parent_start[index + 1]
        fed = self.table.parents[start:end][self.table.fed[start:end] != 0]
        return int(self.table.prompt_tokens[index] + self.output_tokens[fed].sum())

    def send(self, index: int, replica: str, now_s: float) -> Sent:
        """A ready request goes out to a serving replica."""
        assert self.status[index] == READY, "only ready requests are sent"
        self.lanes.send(index, replica, now_s)
        self._serial += 1
        sent = Sent(replica, self._serial, now_s)
        self.status[index] = SENT
        self.in_flight[index] = sent
        return sent

    def is_current(self, index: int, serial: int) -> bool:
        sent = self.in_flight.get(index)
        return sent is not None and sent.serial == serial

    def finish(self, index: int, finish: Finish) -> None:
        """The request in flight has its output: consumers may become ready."""
        self._land(index)
        self._end(index, DONE)
        self.suspects.finished(self.llm(index), index)
        self._keep(index, finish)
        for child in self.children(index):
            self._parents_left[child] -= 1
            if self._parents_left[child] == 0 and self.status[child] == WAITING:
                self._make_ready(child)

    def take_back(self, index: int, *, failure: bool, begun: bool = False) -> int:
        """The request in flight waits again, first in line; `begun`: with a part of its answer. Returns how often it
        failed so far.
        """
        self._land(index)
        self.failures[index] = self.failures.get(index, 0) + failure
        self.status[index] = READY
        self.lanes.wait_again(index, begun=begun)
        return self.failures[index]

    def forgive(self, index: int, failures: int) -> None:
        """So many failed attempts of an open request were not its own: its engine was dying."""
        self.failures[index] -= failures

    def engine_died(self, llm: str, requests: Iterable[int]) -> Verdict:
        """An engine died that had these requests, which wait again or have gone elsewhere: suspects are set apart."""
        verdict = self.suspects.engine_died(llm, [index for index in requests if self.is_open(index)])
        waiting = [[i for i in group if self.status[i] == READY] for group in verdict.groups]
        self.lanes.isolate([group for group in waiting if group])
        return verdict

    def fail(self, index: int) -> list[tuple[int, int]]:
        """An open request ends without an output, and with it all that needs it.

        Returns the others that failed with it: (request, failed source), sources first.
        """
        if self.status[index] == SENT:
            self._land(index)
        elif self.status[index] == READY:
            self.lanes.remove(index)
        self._end(index, FAILED)
        return self._fail_dependents(index)

    def open_of(self, llm: str) -> list[int]:
        """The open requests of an LLM, sources first."""
        ours = np.flatnonzero(self.table.llm == self.table.llm_names.index(llm))
        return [index for index in ours.tolist() if self.is_open(index)]

    def children(self, index: int) -> list[int]:
        start, end = self._children_start[index], self._children_start[index + 1]
        children: list[int] = self._children[start:end].tolist()
        return children

    def _fail_dependents(self, index: int) -> list[tuple[int, int]]:
        failed, trail = [], deque([index])
        while trail:
            source = trail.popleft()
            for child in self.children(source):
                if self.is_open(child):
                    self._end(child, FAILED)
                    failed.append((child, source))
                    trail.append(child)
        return failed

    def _keep(self, index: int, finish: Finish) -> None:
        self.output_tokens[index], self.finish_s[index], self.cut[index] = finish

    def _end(self, index: int, status: int) -> None:
        assert self.is_open(index), "a request ends once"
        self.status[index] = status
        self.unfinished[self.llm(index)] -= 1
        self.suspects.ended(index)
        self.lanes.end(index)

    def _land(self, index: int) -> None:
        self.lanes.land(index, self.in_flight.pop(index).replica)

    def _make_ready(self, index: int) -> None:
        self.status[index] = READY
        self.lanes.wait(index)


def _children(table: RequestTable) -> tuple[IntArray, IntArray]:
    """The consumers of each request: [n + 1] starts, [m] indices in table order."""
    consumers = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    order = np.argsort(table.parents, kind="stable")
    counts = np.bincount(table.parents, minlength=len(table))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), consumers[order].astype(np.int64)
