"""How many requests an engine is given at a time: enough that it never runs dry, few enough that most that cannot begin
wait here, where they can still go to another replica and cost its front end nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from samullm_tui.engines.protocol import EngineStats

__all__ = ["MOST", "InFlight"]

LEAST = 16
MOST = 4096
PATIENCE = 3
"""Samples in a row that an engine must have too much: a new one takes its first requests in over several steps."""


@dataclass(slots=True)
class InFlight:
    """Of one engine. `capacity` requests at a time, to begin with what the engine says of itself."""

    capacity: int
    crowded: int = 0

    def after(self, sent: int, stats: EngineStats) -> int:
        """The capacity after a sample of an engine that was sent so many.

        It doubles while the engine runs all it is given. Where more wait than run it comes down to twice those that run:
        should they all end in one step, as many stand ready. Preempted requests wait as well.
        """
        self.crowded = self.crowded + 1 if stats.waiting > stats.running > 0 else 0
        if sent >= self.capacity and not stats.waiting and stats.running > 0.75 * sent:
            self.capacity = min(2 * self.capacity, max(MOST, self.capacity))
        elif self.crowded >= PATIENCE:
            self.capacity = max(LEAST, min(self.capacity, 2 * stats.running))
            self.crowded = 0
        return self.capacity
