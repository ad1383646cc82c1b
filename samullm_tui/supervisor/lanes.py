"""Where ready requests wait: in the queue of their LLM, or for one replica. Knows what each replica has taken on.

Requests that should stay together (the steps of a chain) are a *unit*; any other request is a unit of its own. A replica
that is sent or dealt the first request of a unit is its home, and is charged with all tokens of it that are left.

Requests that may be what kills engines wait in groups, each for a replica of its own: a *trial*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from samullm_tui.domain.request import IntArray, RequestTable

__all__ = ["Lane", "Lanes", "request_tokens"]

LOADING_CAPACITY = 256
"""What a replica is dealt at most before it says how much keeps it busy."""


class Lane:
    """The requests of one replica, loading or serving. `sent` in the order of sending; `kept`: ready, for it only.

    `on_trial`: it has a group of suspects, and gets nothing else until they are through.
    """

    __slots__ = ("capacity", "kept", "llm", "on_trial", "outstanding_tokens", "sent", "serving", "units")

    def __init__(self, llm: str) -> None:
        self.llm = llm
        self.serving = False
        self.capacity = LOADING_CAPACITY
        self.sent: dict[int, None] = {}
        self.kept: deque[int] = deque()
        self.units: set[int] = set()
        self.outstanding_tokens = 0
        self.on_trial = False


class Lanes:
    """`tokens` [n] that each request is expected to take, `is_open` [n] whether it has still to be done."""

    def __init__(
        self, table: RequestTable, tokens: IntArray, is_open: IntArray, llm_of: Callable[[int], str]
    ) -> None:
        self.queues: dict[str, deque[int]] = {llm: deque() for llm in table.llm_names}
        self.trials: dict[str, deque[list[int]]] = {llm: deque() for llm in table.llm_names}
        self.of: dict[str, Lane] = {}
        self._llm_of = llm_of
        self._tokens = tokens
        self._unit, self._left = _units(table, tokens, is_open)
        self._homes: dict[int, str] = {}
        self._kept_by: dict[int, str] = {}
        self._group_of: dict[int, list[int]] = {}

    def weight(self, index: int) -> int:
        """Tokens that a request brings to a replica that is not its home yet."""
        return int(self._left[self._unit[index]])

    def home(self, index: int) -> str | None:
        return self._homes.get(int(self._unit[index]))

    def by_weight(self, ready: IntArray) -> list[int]:
        """The heaviest units first, singles of one weight in their order: what begins last should be short."""
        chained = np.bincount(self._unit)[self._unit[ready]] > 1 if len(ready) else ready
        order = np.argsort(-np.where(chained, self._left[self._unit[ready]], 0), kind="stable")
        in_order: list[int] = ready[order].tolist()
        return in_order

    def open(self, replica: str, llm: str) -> None:
        """`replica` will serve `llm`: it may be dealt requests."""
        self.of[replica] = Lane(llm)

    def serve(self, replica: str, capacity: int) -> None:
        """`replica` serves now, at most `capacity` requests at a time."""
        lane = self.of[replica]
        lane.serving, lane.capacity = True, capacity
        while len(lane.kept) > capacity:
            self._release(lane.kept.pop())

    def close(self, replica: str) -> None:
        """`replica` serves no more. Nothing may be in flight on it; what was kept for it may go anywhere."""
        lane = self.of.pop(replica)
        assert not lane.sent, f"{replica} still has requests in flight"
        while lane.kept:
            self._release(lane.kept.pop())
        for unit in lane.units:
            del self._homes[unit]

    def wait(self, index: int) -> None:
        """The request is ready: it waits for its unit's replica, or for any."""
        home = self.home(index)
        if home:
            self._keep(index, home)
        else:
            self.queues[self._llm_of(index)].append(index)

    def wait_again(self, index: int) -> None:
        """The request waits for any replica, before all others."""
        self.queues[self._llm_of(index)].appendleft(index)

    def isolate(self, groups: Sequence[Sequence[int]]) -> None:
        """These ready requests of one LLM wait to be tried group by group, before all other groups."""
        for members in reversed(groups):
            group = list(members)
            for index in group:
                self.remove(index)
                self._group_of[index] = group
            self.trials[self._llm_of(group[0])].appendleft(group)

    def deal(self, index: int, replica: str) -> None:
        """A ready request is kept for a replica that still loads."""
        self.remove(index)
        self._settle(index, replica)
        self._keep(index, replica)

    def send(self, index: int, replica: str) -> None:
        """A ready request goes out, from wherever it waits."""
        self.of[replica].on_trial |= index in self._group_of
        self.remove(index)
        self._settle(index, replica)
        self.of[replica].sent[index] = None

    def land(self, index: int, replica: str) -> None:
        """The request is in flight no more."""
        lane = self.of[replica]
        del lane.sent[index]
        lane.on_trial &= bool(lane.sent)

    def end(self, index: int) -> None:
        """The request has ended: its tokens are nobody's any more."""
        unit, tokens = int(self._unit[index]), int(self._tokens[index])
        self._left[unit] -= tokens
        home = self._homes.get(unit)
        if home:
            lane = self.of[home]
            lane.outstanding_tokens -= tokens
            if not self._left[unit]:
                lane.units.remove(unit)
                del self._homes[unit]

    def remove(self, index: int) -> None:
        """Takes a ready request out of where it waits: mostly the head or the tail."""
        if index in self._group_of:
            self._leave_group(index)
            return
        replica = self._kept_by.pop(index, None)
        queue = self.of[replica].kept if replica else self.queues[self._llm_of(index)]
        if queue[0] == index:
            queue.popleft()
        elif queue[-1] == index:
            queue.pop()
        else:
            queue.remove(index)

    def _leave_group(self, index: int) -> None:
        group = self._group_of.pop(index)
        group.remove(index)
        if not group:
            self.trials[self._llm_of(index)].remove(group)

    def _keep(self, index: int, replica: str) -> None:
        self._kept_by[index] = replica
        self.of[replica].kept.append(index)

    def _release(self, index: int) -> None:
        """What was kept for a replica may go to any."""
        del self._kept_by[index]
        self.wait_again(index)

    def _settle(self, index: int, replica: str) -> None:
        unit, lane = int(self._unit[index]), self.of[replica]
        home = self._homes.get(unit)
        if home == replica:
            return
        left = int(self._left[unit])
        if home:
            self.of[home].units.remove(unit)
            self.of[home].outstanding_tokens -= left
        self._homes[unit] = replica
        lane.units.add(unit)
        lane.outstanding_tokens += left


def request_tokens(table: RequestTable, expected: IntArray) -> IntArray:
    """[n] tokens that each request is expected to take: its prompt, the outputs that go into it, and its output."""
    fed = np.concatenate([[0], np.cumsum(np.where(table.fed != 0, expected[table.parents], 0))])
    upstream = fed[table.parent_start[1:]] - fed[table.parent_start[:-1]]
    tokens: IntArray = np.maximum(1, table.prompt_tokens + upstream + expected)
    return tokens


def _units(table: RequestTable, tokens: IntArray, is_open: IntArray) -> tuple[IntArray, IntArray]:
    """[n] the unit of each request (a group on one LLM, or itself), and for each unit the tokens of what is open."""
    groups = int(table.group.max(initial=-1)) + 1
    own = len(table.llm_names) * groups + np.arange(len(table))
    unit = np.where(table.group >= 0, table.llm * groups + table.group, own)
    _, dense = np.unique(unit, return_inverse=True)
    left = np.bincount(dense, np.where(is_open, tokens, 0)).astype(np.int64)
    return dense.astype(np.int64), left
