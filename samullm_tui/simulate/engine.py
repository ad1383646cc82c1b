"""One engine: served online, request by request (`EngineSimulation`), or with all requests known (`simulate_requests`).

Both are the same compiled schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray
from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.batch import EngineTrace, check_requests, simulate_requests
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.kernel import advance
from samullm_tui.simulate.requests import arrive, take_out
from samullm_tui.simulate.state import (
    BLOCKED,
    CLOCK,
    COMPUTED,
    DECODED,
    ENGINE,
    FINISH,
    FINISHED,
    FINISHES,
    FIRST,
    IDLE,
    ITERATIONS,
    LEAVERS,
    LEAVING,
    LIMIT,
    LLM,
    ORDER,
    ORIGIN,
    OUTSIDE,
    PENDING_COUNT,
    PHASE,
    PREEMPTIONS,
    PREFILLED,
    PREFIX,
    PROMPT,
    READY,
    RUNNING,
    SETTLED,
    SHARED,
    SLOT,
    STOP_AT_FINISH,
    STOPS,
    TOKENS,
    USABLE,
    USED,
    WAIT_COUNT,
    State,
    make_state,
)

__all__ = ["EngineConfig", "EngineSimulation", "EngineTrace", "Finished", "Snapshot", "simulate_requests"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finished:
    """Requests that finished, in that order: their keys and times, arrays of one length."""

    keys: IntArray
    first_token_s: FloatArray
    finish_s: FloatArray

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of an engine at one moment."""

    state: State
    keys: IntArray
    slots: Mapping[int, int]
    free: tuple[int, ...]
    leaving: tuple[int, ...]
    prefixes: Mapping[int, tuple[int, int]]
    slots_used: int
    submitted: int


class EngineSimulation:
    """One engine that requests are submitted to as they come. Times are absolute seconds from the clock's zero."""

    def __init__(self, config: EngineConfig, latency: IterationLatency, capacity: int = 1024) -> None:
        """`capacity` requests fit before the arrays grow."""
        self.config = config
        self.latency = latency
        self._state = make_state(max(capacity, 1), [(config, latency)])
        self._keys = np.zeros(max(capacity, 1), np.int64)
        self._slots: dict[int, int] = {}
        self._free = list(range(len(self._keys) - 1, -1, -1))
        self._prefixes: dict[int, tuple[int, int]] = {}  # the slot of its first block, how many slots
        self._slots_used = 0
        self._leaving: list[int] = []  # finished, but still on the running list of an asynchronous engine
        self._submitted = 0

    @property
    def clock_s(self) -> float:
        """When the next step may start; the end of the last one. Set it to start an engine late."""
        return float(self._state.clock[0, CLOCK])

    @clock_s.setter
    def clock_s(self, clock_s: float) -> None:
        self._state.clock[0, CLOCK] = clock_s

    @property
    def running(self) -> int:
        return int(self._state.eng[0, RUNNING] - self._state.eng[0, LEAVERS])

    @property
    def waiting(self) -> int:
        """Requests submitted that do not run, those that arrive later included."""
        return int(self._state.eng[0, WAIT_COUNT] + self._state.eng[0, PENDING_COUNT])

    @property
    def kv_usage(self) -> float:
        """Share of the usable KV blocks in use, 0 to 1."""
        return float(self._state.eng[0, USED] / self._state.eng[0, USABLE])

    @property
    def preemptions(self) -> int:
        return int(self._state.eng[0, PREEMPTIONS])

    @property
    def iterations(self) -> int:
        return int(self._state.eng[0, ITERATIONS])

    @property
    def prefilled(self) -> int:
        """Prompt tokens computed, those of preempted requests again."""
        return int(self._state.eng[0, PREFILLED])

    def submit(
        self,
        key: int,
        prompt_tokens: int,
        output_tokens: int,
        arrival_s: float,
        generated: int = 0,
        *,
        stops: bool = False,
        prefix: int = -1,
        prefix_tokens: int = 0,
        priority: int = 0,
    ) -> None:
        """A request under a key that no unfinished request has.

        `generated` of its `output_tokens` exist already (it comes from another engine): they are computed again as
        part of its prompt. `stops`: it ends by itself, not by its max_tokens. Requests with one `prefix` begin with the
        same tokens (-1: none), `prefix_tokens` of its prompt are of that beginning. Raises InputError when the engine could
        never finish it, ValueError for a key in use.
        """
        if key in self._slots:
            raise ValueError(f"request {key} is not finished yet")
        prompt, output = prompt_tokens + generated, output_tokens - generated
        check_requests(self.config, np.array([prompt]), np.array([output]))
        if not self._free:
            self._grow()
        slot = self._free.pop()
        row = self._state.req[slot]
        row[[PROMPT, TOKENS]] = prompt
        row[LIMIT] = min(prompt + output, self.config.max_model_len)
        row[ORIGIN] = prompt_tokens
        row[ORDER] = self._submitted
        row[[ENGINE, BLOCKED, LLM, COMPUTED]] = 0
        if not self.config.plain:
            self._state.option[slot] = 0
            self._state.option[slot, [PREFIX, IDLE]] = -1
            self._state.option[slot, STOPS] = stops
            self._share(slot, prefix, min(prefix_tokens, prompt_tokens - 1))
        if len(self._state.priority):
            self._state.priority[slot] = priority
        self._state.times[slot] = np.nan
        self._state.times[slot, READY] = arrival_s
        self._keys[slot] = key
        self._slots[key] = slot
        self._submitted += 1
        arrive(self._state, slot)

    def advance(self, until_s: float = np.inf, *, stop_at_finish: bool = False) -> Finished:
        """Works on: starts no step at or after until_s; an idle engine jumps to the next arrival before it.

        With `stop_at_finish` it returns after the first step that finishes a request.
        """
        s = self._state
        s.misc[FINISHED] = 0
        s.misc[STOP_AT_FINISH] = stop_at_finish
        advance(s, 0, until_s)
        slots = s.lists[FINISHES, : s.misc[FINISHED]].copy()
        finished = Finished(self._keys[slots], s.times[slots, FIRST], s.times[slots, FINISH])
        for slot in slots.tolist():
            del self._slots[int(self._keys[slot])]
        self._leaving += slots.tolist()
        for slot in self._leaving:
            if s.req[slot, PHASE] < LEAVING:
                self._release(slot)
        self._leaving = [slot for slot in self._leaving if s.req[slot, PHASE] >= LEAVING]
        return finished

    def remove(self, key: int) -> int:
        """Takes an unfinished request out; its blocks are free at once. Returns the output tokens it has."""
        slot = self._slots[key]
        take_out(self._state, slot)
        tokens = int(self._state.req[slot, TOKENS] - self._state.req[slot, ORIGIN])
        del self._slots[key]
        self._release(slot)
        return tokens

    def unfinished(self) -> tuple[IntArray, IntArray]:
        """(keys, output tokens that each has so far), in the order of submission."""
        req = self._state.req
        slots = np.array(sorted(self._slots.values(), key=lambda slot: int(req[slot, ORDER])), np.int64)
        rows = req[slots]
        settled = rows[:, COMPUTED] + self._state.eng[0, DECODED] + 1
        tokens: IntArray = np.where(rows[:, PHASE] == SETTLED, settled, rows[:, TOKENS])
        return self._keys[slots], tokens - rows[:, ORIGIN]

    def snapshot(self) -> Snapshot:
        state = State._make(array.copy() for array in self._state)
        lists = (dict(self._slots), tuple(self._free), tuple(self._leaving), dict(self._prefixes))
        return Snapshot(state, self._keys.copy(), *lists, self._slots_used, self._submitted)

    def restore(self, snapshot: Snapshot) -> None:
        """Exactly as it was at the snapshot, which can be restored again."""
        self._state = State._make(array.copy() for array in snapshot.state)
        self._keys = snapshot.keys.copy()
        self._slots = dict(snapshot.slots)
        self._free = list(snapshot.free)
        self._leaving = list(snapshot.leaving)
        self._prefixes = dict(snapshot.prefixes)
        self._slots_used = snapshot.slots_used
        self._submitted = snapshot.submitted

    def _share(self, slot: int, prefix: int, tokens: int) -> None:
        """Which blocks it shares; makes room for them where nobody had them before."""
        blocks = tokens // self.config.block_size
        if not self.config.prefix_caching or prefix < 0 or blocks < 1:
            return
        first, had = self._prefixes.get(prefix, (-1, 0))
        if blocks > had:
            first = self._make_slots(first, had, blocks)
            self._prefixes[prefix] = (first, blocks)
        self._state.option[slot, PREFIX] = first
        self._state.option[slot, SHARED] = tokens

    def _make_slots(self, old: int, had: int, blocks: int) -> int:
        """The first of `blocks` new slots, to which what is cached in the `had` slots from `old` on moves."""
        first, self._slots_used = self._slots_used, self._slots_used + blocks
        missing = self._slots_used - self._state.cache.shape[1]
        if missing > 0:
            more = np.full((1, missing + self._slots_used, 2), -1, np.int64)
            self._state = self._state._replace(cache=np.concatenate([self._state.cache, more], axis=1))
        if had:
            s = self._state
            s.cache[0, first : first + had] = s.cache[0, old : old + had]
            s.option[s.option[:, PREFIX] == old, PREFIX] = first
            of_old = (s.lru[:, 0, SLOT] >= old) & (s.lru[:, 0, SLOT] < old + had)
            s.lru[of_old, 0, SLOT] += first - old
        return first

    def _release(self, slot: int) -> None:
        self._state.req[slot, PHASE] = OUTSIDE
        self._free.append(slot)

    def _grow(self) -> None:
        """Twice the room. Whatever has one entry for each request gets longer; everything else is taken over."""
        old, before = self._state, len(self._keys)
        new = make_state(2 * before, [(self.config, self.latency)])
        new = new._replace(cache=old.cache)
        for name in ("eng", "clock", "endings", "crowds", "hist", "misc", "llm", "lru"):
            getattr(new, name)[:] = getattr(old, name)
        new.option[: len(old.option)] = old.option
        new.priority[: len(old.priority)] = old.priority
        new.req[:before] = old.req
        new.times[:before] = old.times
        new.lists[:, :before] = old.lists
        self._state = new
        self._keys = np.concatenate([self._keys, np.zeros(before, np.int64)])
        self._free.extend(range(2 * before - 1, before - 1, -1))
