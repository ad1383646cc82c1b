"""Where ready requests wait: in the queue of their LLM, or for one replica. Knows what each replica has taken on.

Requests that should stay together (the steps of a chain) are a *unit*; any other request is a unit of its own. A replica
that is sent or dealt the first request of a unit is its home, and is charged with all of it that is left. Units and
charges are those of the forecast (`simulate.dealing`).

Requests that may be what kills engines wait in groups, each for a replica of its own: a *trial*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.simulate.dealing import Rates, done_s
from samullm_tui.simulate.graph import links_of, prompts_of, units_of

__all__ = ["BY_TOKENS", "Lane", "Lanes", "Load"]

LOADING_CAPACITY = 256
"""What a replica is dealt at most before it says how much keeps it busy."""


BY_TOKENS = Rates(step_s=0.0, fill_s=1.0, decode_s=1.0, batch=1.0)
"""Of a replica that nobody has a model of: every token takes as long."""


class Load(NamedTuple):
    """Work that is left: prompt and output tokens, and the output tokens of the longest chain."""

    prompts: int = 0
    outputs: int = 0
    longest: int = 0

    def __add__(self, other: Load) -> Load:  # type: ignore[override]  # not a longer tuple
        longest = max(self.longest, other.longest)
        return Load(self.prompts + other.prompts, self.outputs + other.outputs, longest)

    def __sub__(self, other: Load) -> Load:
        """Without `other`, which is not the longest chain."""
        return Load(self.prompts - other.prompts, self.outputs - other.outputs, self.longest)


class Lane:
    """The requests of one replica, loading or serving. `sent` in the order of sending; `kept`: ready, for it only.

    `busy_since_s`: from then on it has had something in flight all the time.
    `units`: those whose home it is, `chains` those of them of several requests, `prompts` and `outputs` what is left.
    `on_trial`: it has a group of suspects, and gets nothing else until they are through.
    """

    __slots__ = (
        *(
            "busy_since_s",
            "capacity",
            "chains",
            "kept",
            "llm",
            "on_trial",
            "outputs",
            "prompts",
            "rates",
            "sent",
            "serving",
        ),
        "units",
    )

    def __init__(self, llm: str, rates: Rates) -> None:
        self.llm = llm
        self.rates = rates
        self.serving = False
        self.capacity = LOADING_CAPACITY
        self.sent: dict[int, None] = {}
        self.kept: deque[int] = deque()
        self.units: set[int] = set()
        self.chains: set[int] = set()
        self.prompts = self.outputs = 0
        self.on_trial = False
        self.busy_since_s = 0.0

    def seconds(self, load: Load) -> float:
        """Until it would be done with so much."""
        return float(done_s(*self.rates, *load))


class Lanes:
    """`expected` [n] output tokens of each request, `is_open` [n] whether it has still to be done."""

    def __init__(
        self, table: RequestTable, expected: IntArray, is_open: IntArray, llm_of: Callable[[int], str]
    ) -> None:
        self.queues: dict[str, deque[int]] = {llm: deque() for llm in table.llm_names}
        self.trials: dict[str, deque[list[int]]] = {llm: deque() for llm in table.llm_names}
        self.of: dict[str, Lane] = {}
        self._llm_of = llm_of
        self._outputs = np.maximum(1, expected)
        self._prompts = prompts_of(table, expected)
        _, unit, members = np.unique(
            units_of(table, links_of(table)), return_inverse=True, return_counts=True
        )
        self._unit = unit
        self._chained = members > 1
        self._outputs_left = _total(unit, self._outputs, is_open)
        self._prompts_left = _total(unit, self._prompts, is_open)
        self._homes: dict[int, str] = {}
        self._kept_by: dict[int, str] = {}
        self._begun: set[int] = set()
        self._group_of: dict[int, list[int]] = {}

    def brings(self, index: int) -> Load:
        """What a request brings to a replica that is not its home yet: all that is left of its unit."""
        unit = self._unit[index]
        outputs = int(self._outputs_left[unit])
        return Load(int(self._prompts_left[unit]), outputs, outputs if self._chained[unit] else 0)

    def load(self, replica: str) -> Load:
        """What a replica has taken on."""
        lane = self.of[replica]
        longest = max((int(self._outputs_left[unit]) for unit in lane.chains), default=0)
        return Load(lane.prompts, lane.outputs, longest)

    def home(self, index: int) -> str | None:
        return self._homes.get(int(self._unit[index]))

    def longest_first(self, ready: IntArray) -> list[int]:
        """The longest chains first, then what is in none, in its order: what begins last should be short."""
        unit = self._unit[ready]
        order = np.argsort(-np.where(self._chained[unit], self._outputs_left[unit], 0), kind="stable")
        in_order: list[int] = ready[order].tolist()
        return in_order

    def open(self, replica: str, llm: str, rates: Rates = BY_TOKENS) -> None:
        """`replica` will serve `llm`: it may be dealt requests."""
        self.of[replica] = Lane(llm, rates)

    def serve(self, replica: str, capacity: int) -> None:
        """`replica` serves now, at most `capacity` requests at a time."""
        lane = self.of[replica]
        lane.serving, lane.capacity = True, capacity
        while len(lane.kept) > capacity:
            self._release(lane.kept.pop())

    def retire(self, replica: str) -> None:
        """`replica` gets nothing more. What was kept for it may go anywhere; what is in flight may still land."""
        lane = self.of[replica]
        lane.serving, lane.capacity = False, 0
        while lane.kept:
            self._release(lane.kept.pop())
        for unit in lane.units:
            del self._homes[unit]
        lane.units.clear()
        lane.chains.clear()

    def close(self, replica: str) -> None:
        """`replica` serves no more. Nothing may be in flight on it."""
        assert not self.of[replica].sent, f"{replica} still has requests in flight"
        self.retire(replica)
        del self.of[replica]

    def wait(self, index: int) -> None:
        """The request is ready: it waits for its unit's replica, or for any."""
        home = self.home(index)
        if home:
            self._keep(index, home)
        else:
            self.queues[self._llm_of(index)].append(index)

    def wait_again(self, index: int, *, begun: bool = False) -> None:
        """The request waits for any replica, before all others. `begun`: it has a part of its answer, and goes first
        wherever it is kept as well.
        """
        if begun:
            self._begun.add(index)
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

    def send(self, index: int, replica: str, now_s: float) -> None:
        """A ready request goes out, from wherever it waits."""
        lane = self.of[replica]
        lane.on_trial |= index in self._group_of
        self.remove(index)
        self._settle(index, replica)
        if not lane.sent:
            lane.busy_since_s = now_s
        lane.sent[index] = None

    def bound(self, names: Sequence[str]) -> IntArray:
        """[n] the place in `names` of the replica that has each open request: sent to it, kept for it or a later step of
        what it has begun. -1 of requests that may go to any; what is kept for a replica that still loads may.
        """
        places = {name: place for place, name in enumerate(names) if self.of[name].serving}
        home = np.full(len(self._chained), -1, dtype=np.int64)
        for unit, name in self._homes.items():
            home[unit] = places.get(name, -1)
        bound = np.where(self._chained, home, -1)[self._unit]
        for name, place in places.items():
            lane = self.of[name]
            bound[np.fromiter((*lane.sent, *lane.kept), np.int64)] = place
        return bound

    def land(self, index: int, replica: str) -> None:
        """The request is in flight no more."""
        lane = self.of[replica]
        del lane.sent[index]
        lane.on_trial &= bool(lane.sent)

    def end(self, index: int) -> None:
        """The request has ended: its tokens are nobody's any more."""
        unit, prompt, output = int(self._unit[index]), int(self._prompts[index]), int(self._outputs[index])
        self._begun.discard(index)
        self._prompts_left[unit] -= prompt
        self._outputs_left[unit] -= output
        home = self._homes.get(unit)
        if home:
            lane = self.of[home]
            lane.prompts -= prompt
            lane.outputs -= output
            if not self._outputs_left[unit]:
                lane.units.remove(unit)
                lane.chains.discard(unit)
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
        kept = self.of[replica].kept
        if index in self._begun:
            kept.insert(sum(1 for _ in takewhile(self._begun.__contains__, kept)), index)
        else:
            kept.append(index)

    def _release(self, index: int) -> None:
        """What was kept for a replica may go to any."""
        del self._kept_by[index]
        self.wait_again(index)

    def _settle(self, index: int, replica: str) -> None:
        unit, left = int(self._unit[index]), self.brings(index)
        home = self._homes.get(unit)
        if home == replica:
            return
        if home:
            self._move(unit, self.of[home], -left.prompts, -left.outputs)
        self._homes[unit] = replica
        self._move(unit, self.of[replica], left.prompts, left.outputs)

    def _move(self, unit: int, lane: Lane, prompts: int, outputs: int) -> None:
        """A unit to a replica, or from it where the tokens are negative."""
        for units in (lane.units, lane.chains) if self._chained[unit] else (lane.units,):
            (units.add if outputs > 0 else units.remove)(unit)
        lane.prompts += prompts
        lane.outputs += outputs


def _total(unit: IntArray, tokens: IntArray, is_open: IntArray) -> IntArray:
    """For each unit the tokens of what is open of it."""
    return np.bincount(unit, np.where(is_open, tokens, 0)).astype(np.int64)
