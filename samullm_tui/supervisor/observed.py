"""What engines have shown so far: how fast their steps are, how long they load, who has begun. No clock: told the time.

Readings of an engine's totals are taken about once a second. From one reading to the next every request that runs makes
one token a step, so that the tokens that a request has are the steps since it began. A request has begun when it no longer
waits in its engine's own queue, which keeps the order in which requests were sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from samullm_tui.domain.plan import Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.engines.protocol import EngineStats
from samullm_tui.lengths.answers import BoolArray
from samullm_tui.supervisor.ledger import Ledger

__all__ = ["Watch", "Window"]

LEAST_STEPS = 20
"""A window has as many steps: its ends may lie anywhere in a step."""
MOST_WINDOWS = 200
"""The latest of an LLM at one tp: an engine's speed may change."""


class Window(NamedTuple):
    """A while in which an engine was never without a request.

    steps, prefill_tokens, output_tokens   what it did
    began                                  requests that it began with, those it preempted again
    prompt_tokens                          mean prompt of the requests that it has
    context_tokens                         of all that run, together, on average
    """

    seconds: float
    steps: int
    prefill_tokens: int
    output_tokens: int
    began: int
    prompt_tokens: float
    context_tokens: float


class _Begun(NamedTuple):
    """A request that runs: how many steps the engine had made when it began, and its prompt."""

    steps: float
    prompt_tokens: int


class _Meter:
    """One engine since it became ready."""

    def __init__(self, ready_s: float) -> None:
        self.at_s = ready_s
        self.stats = EngineStats(running=0, waiting=0)
        self.steps = 0.0
        self.begun: dict[int, _Begun] = {}
        self.began = 0
        self.was_full = False
        self.window = self._mark()

    def read(self, stats: EngineStats, now_s: float, ledger: Ledger, replica: str) -> None:
        lane = ledger.lanes.of[replica]
        made = self._steps_since(stats)
        since_s = max(self.at_s, min(lane.busy_since_s, now_s))
        sent = list(lane.sent)
        there, queued = _parted(sent, stats.waiting)
        fresh = [index for index in there if index not in self.begun]
        begun = {index: self.begun[index] for index in there if index in self.begun}
        for place, index in enumerate(fresh):
            # From the queue one after another; what was sent since then not before it was sent.
            in_turn = (place + 0.5) / len(fresh)
            sent_at = (ledger.in_flight[index].sent_s - since_s) / max(now_s - since_s, 1e-9)
            share = min(1.0, max(in_turn, sent_at)) if self.was_full else min(1.0, max(0.0, sent_at))
            begun[index] = _Begun(self.steps + made * share, ledger.prompt_tokens(index))
        self.began += len(fresh)
        self.was_full = stats.waiting > 0
        # Preempted requests wait, but have begun.
        begun |= {index: self.begun[index] for index in queued if index in self.begun}
        self.begun = begun
        self.steps += made
        self.at_s, self.stats = now_s, stats

    def close_window(self, busy_since_s: float) -> Window | None:
        """What was done since the last mark, when that is enough. None also when the engine was idle meanwhile."""
        began, before = self.window, self._mark()
        if busy_since_s > began.at_s or not self.stats.steps_total:
            self.window = before
            return None
        steps = self.stats.steps_total - began.stats.steps_total
        if steps < LEAST_STEPS:
            return None
        self.window = before
        return Window(
            seconds=self.at_s - began.at_s,
            steps=steps,
            prefill_tokens=self.stats.prefill_tokens_total - began.stats.prefill_tokens_total,
            output_tokens=self.stats.output_tokens_total - began.stats.output_tokens_total,
            began=self.began - began.began + self.stats.preemptions_total - began.stats.preemptions_total,
            prompt_tokens=before.prompt_tokens,
            context_tokens=(began.context_tokens + before.context_tokens) / 2,
        )

    def _mark(self) -> _Mark:
        running = list(self.begun.values())[: self.stats.running]
        prompts = sum(one.prompt_tokens for one in running)
        context = prompts + sum(self.steps - one.steps for one in running)
        return _Mark(self.at_s, self.stats, self.began, prompts / max(1, len(running)), context)

    def _steps_since(self, stats: EngineStats) -> float:
        """Where the engine does not count its steps: the tokens that each running request made on average."""
        if stats.steps_total:
            return stats.steps_total - self.stats.steps_total
        made = stats.output_tokens_total - self.stats.output_tokens_total
        return max(0.0, made / max(1.0, (stats.running + self.stats.running) / 2))


def _parted(sent: list[int], waiting: int) -> tuple[list[int], list[int]]:
    """What runs, and what waits in the engine's queue."""
    running = max(0, len(sent) - waiting)
    return sent[:running], sent[running:]


class _Mark(NamedTuple):
    at_s: float
    stats: EngineStats
    began: int
    prompt_tokens: float
    context_tokens: float


class Watch:
    """Of all engines of a run.

    windows  the latest of each LLM at each tp
    loads_s  of each LLM at each tp, in their order
    """

    def __init__(self) -> None:
        self.windows: dict[tuple[str, int], deque[Window]] = {}
        self.loads_s: dict[tuple[str, int], list[float]] = {}
        self._meters: dict[str, _Meter] = {}

    def loaded(self, replica: Replica, load_s: float) -> None:
        """A start took so long."""
        self.loads_s.setdefault((replica.llm, replica.tp), []).append(load_s)

    def ready(self, replica: Replica, now_s: float, load_s: float) -> None:
        """The engine serves from now on, with all its totals at 0."""
        self.loaded(replica, load_s)
        self._meters[replica.name] = _Meter(now_s)

    def read(self, replica: Replica, stats: EngineStats, now_s: float, ledger: Ledger) -> None:
        """What a serving engine counts now."""
        meter, lane = self._meters.get(replica.name), ledger.lanes.of.get(replica.name)
        if meter is None or lane is None:
            return
        meter.read(stats, now_s, ledger, replica.name)
        window = meter.close_window(lane.busy_since_s)
        if window is not None:
            key = replica.llm, replica.tp
            self.windows.setdefault(key, deque(maxlen=MOST_WINDOWS)).append(window)

    def generated(self, replica: str, requests: IntArray) -> IntArray:
        """[k] output tokens that requests of a replica made there by its last reading, as far as its steps tell."""
        steps, begun = self._of(replica)
        made = [steps - begun[k].steps if k in begun else 0.0 for k in requests.tolist()]
        return np.asarray(np.rint(made), dtype=np.int64)

    def has_begun(self, replica: str, requests: IntArray) -> BoolArray:
        """[k] whether they had left the engine's queue at its last reading, for the first time."""
        _, begun = self._of(replica)
        return np.array([k in begun for k in requests.tolist()], dtype=np.bool_)

    def _of(self, replica: str) -> tuple[float, Mapping[int, _Begun]]:
        meter = self._meters.get(replica)
        return (meter.steps, meter.begun) if meter else (0.0, {})
