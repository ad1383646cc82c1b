"""Where each request of a run stands: waiting for sources, ready, sent, done or failed. No clock, no engine.

Every request ends exactly once. Only the answer to a request's latest sending counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from samullm_tui.domain.request import IntArray, RequestTable

__all__ = ["Ledger", "Sent"]

WAITING, READY, SENT, DONE, FAILED = range(5)


class Sent:
    """A request in flight: to which replica, as which sending, at what time, and how many tokens it may take."""

    __slots__ = ("replica", "sent_s", "serial", "tokens")

    def __init__(self, replica: str, serial: int, sent_s: float, tokens: int) -> None:
        self.replica = replica
        self.serial = serial
        self.sent_s = sent_s
        self.tokens = tokens


class Ledger:
    """The requests of `table`. `expected` [n]: output tokens to expect, for balancing only."""

    def __init__(
        self, table: RequestTable, expected: IntArray, done: Mapping[int, int], failed: Iterable[int]
    ) -> None:
        """`done`: output tokens of the requests that are finished already; `failed`: those with an error row."""
        self.table = table
        self.status = bytearray(len(table))
        self.output_tokens: IntArray = np.zeros(len(table), dtype=np.int64)
        self.in_flight: dict[int, Sent] = {}
        self.failures: dict[int, int] = {}
        self.queues: dict[str, deque[int]] = {llm: deque() for llm in table.llm_names}
        self.unfinished: dict[str, int] = {}
        self.lanes: dict[str, Lane] = {}
        self._expected = expected
        self._serial = 0
        self._homes: dict[tuple[int, int], str] = {}
        self._children_start, self._children = _children(table)
        self._group_sizes = (
            np.bincount(table.group[table.group >= 0]) if len(table) else np.zeros(0, np.int64)
        )
        self._restore(done, failed)

    def _restore(self, done: Mapping[int, int], failed: Iterable[int]) -> None:
        for index, tokens in done.items():
            self.status[index] = DONE
            self.output_tokens[index] = tokens
        for index in failed:
            self.status[index] = FAILED
        status = np.frombuffer(bytes(self.status), dtype=np.uint8)
        pending = np.concatenate([[0], np.cumsum(status[self.table.parents] != DONE)])
        self._parents_left: IntArray = (
            pending[self.table.parent_start[1:]] - pending[self.table.parent_start[:-1]]
        )
        open_ = status == WAITING
        counts = np.bincount(self.table.llm[open_], minlength=len(self.table.llm_names))
        self.unfinished = dict(zip(self.table.llm_names, counts.tolist(), strict=True))
        for index in np.flatnonzero(open_ & (self._parents_left == 0)).tolist():
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
        return bool(self.queues[llm]) or any(lane.pinned for lane in self.lanes.values() if lane.llm == llm)

    def is_open(self, index: int) -> bool:
        return self.status[index] < DONE

    def prompt_tokens(self, index: int) -> int:
        """Of template and record and the outputs that the prompt takes in; those must be finished."""
        start, end = self.table.parent_start[index], self.table.parent_start[index + 1]
        fed = self.table.parents[start:end][self.table.fed[start:end] != 0]
        return int(self.table.prompt_tokens[index] + self.output_tokens[fed].sum())

    def tokens_of(self, index: int) -> int:
        """Prompt and expected output tokens of a ready request."""
        return self.prompt_tokens(index) + int(self._expected[index])

    def open_lane(self, replica: str, llm: str, capacity: int) -> None:
        """`replica` serves `llm` from now on, at most `capacity` requests at a time."""
        self.lanes[replica] = Lane(llm, capacity)

    def close_lane(self, replica: str) -> None:
        """`replica` serves no more. Nothing may be in flight on it; what was kept for it may go anywhere."""
        lane = self.lanes.pop(replica)
        assert not lane.sent, f"{replica} still has requests in flight"
        self.queues[lane.llm].extendleft(reversed(lane.pinned))

    def send(self, index: int, replica: str, now_s: float) -> Sent:
        """Takes a ready request, which must stand at the head of its queue."""
        lane = self.lanes[replica]
        queue = lane.pinned if lane.pinned and lane.pinned[0] == index else self.queues[lane.llm]
        assert queue[0] == index, "requests leave a queue at its head"
        queue.popleft()
        self._serial += 1
        sent = Sent(replica, self._serial, now_s, self.tokens_of(index))
        self.status[index] = SENT
        self.in_flight[index] = sent
        lane.sent[index] = None
        lane.outstanding_tokens += sent.tokens
        if self._chained(index):
            self._homes[self._group(index)] = replica
        return sent

    def is_current(self, index: int, serial: int) -> bool:
        sent = self.in_flight.get(index)
        return sent is not None and sent.serial == serial

    def finish(self, index: int, output_tokens: int) -> None:
        """The request in flight has its output: consumers may become ready."""
        self._land(index)
        self._end(index, DONE)
        self.output_tokens[index] = output_tokens
        for child in self.children(index):
            self._parents_left[child] -= 1
            if self._parents_left[child] == 0 and self.status[child] == WAITING:
                self._make_ready(child)

    def take_back(self, index: int, *, failure: bool) -> int:
        """The request in flight waits again, first in line. Returns how often it failed so far."""
        self._land(index)
        self.failures[index] = self.failures.get(index, 0) + failure
        self.status[index] = READY
        self.queues[self.llm(index)].appendleft(index)
        return self.failures[index]

    def fail(self, index: int) -> list[tuple[int, int]]:
        """An open request ends without an output, and with it all that needs it.

        Returns the others that failed with it: (request, failed source), sources first.
        """
        if self.status[index] == SENT:
            self._land(index)
        self._unqueue(index)
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

    def _end(self, index: int, status: int) -> None:
        assert self.is_open(index), "a request ends once"
        self.status[index] = status
        self.unfinished[self.llm(index)] -= 1

    def _land(self, index: int) -> None:
        sent = self.in_flight.pop(index)
        lane = self.lanes[sent.replica]
        del lane.sent[index]
        lane.outstanding_tokens -= sent.tokens

    def _make_ready(self, index: int) -> None:
        self.status[index] = READY
        home = self._homes.get(self._group(index)) if self._chained(index) else None
        lane = self.lanes.get(home) if home else None
        (lane.pinned if lane else self.queues[self.llm(index)]).append(index)

    def _unqueue(self, index: int) -> None:
        if self.status[index] != READY:
            return
        queues = [self.queues[self.llm(index)], *(lane.pinned for lane in self.lanes.values())]
        next(queue for queue in queues if index in queue).remove(index)

    def _chained(self, index: int) -> bool:
        group = self.table.group[index]
        return bool(group >= 0 and self._group_sizes[group] > 1)

    def _group(self, index: int) -> tuple[int, int]:
        return int(self.table.llm[index]), int(self.table.group[index])


class Lane:
    """The requests of one serving replica. `sent` in the order of sending; `pinned`: ready, and at home here."""

    __slots__ = ("capacity", "llm", "outstanding_tokens", "pinned", "sent")

    def __init__(self, llm: str, capacity: int) -> None:
        self.llm = llm
        self.capacity = capacity
        self.sent: dict[int, None] = {}
        self.pinned: deque[int] = deque()
        self.outstanding_tokens = 0


def _children(table: RequestTable) -> tuple[IntArray, IntArray]:
    """The consumers of each request: [n + 1] starts, [m] indices in table order."""
    consumers = np.repeat(np.arange(len(table)), np.diff(table.parent_start))
    order = np.argsort(table.parents, kind="stable")
    counts = np.bincount(table.parents, minlength=len(table))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), consumers[order].astype(np.int64)
