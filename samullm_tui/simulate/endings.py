"""Compiled: the settled requests of one engine by the step in which they end, a calendar queue.

endings [size, 2]  first and last of those that end in a step, at that step modulo the size; as nobody ends `size` steps
                   from now or later, no two steps have one place
crowds             how many there are in each GROUP of places, so that empty ones are passed over
"""

from __future__ import annotations

from samullm_tui.simulate.queues import append, unlink
from samullm_tui.simulate.state import AHEAD, BEHIND, GROUP, I32, I64, compiled

__all__ = ["add_ending", "drop_ending", "first_ending", "steps_to_ending"]

HEAD, TAIL = range(2)


@compiled
def add_ending(req: I32, endings: I32, crowds: I64, r: int, step: int) -> None:
    """R ends in this step, after those that were added before it and end in it too."""
    place = step & (endings.shape[0] - 1)
    append(req, endings[place], r, HEAD, TAIL, AHEAD, BEHIND)
    crowds[place // GROUP] += 1


@compiled
def drop_ending(req: I32, endings: I32, crowds: I64, r: int, step: int) -> None:
    """R, which has been added to this step, has ended or decodes no more."""
    place = step & (endings.shape[0] - 1)
    unlink(req, endings[place], r, HEAD, TAIL, AHEAD, BEHIND)
    crowds[place // GROUP] -= 1


@compiled
def first_ending(endings: I32, step: int) -> int:
    """The request that ends first in this step, or -1."""
    return int(endings[step & (endings.shape[0] - 1), HEAD])


@compiled
def steps_to_ending(endings: I32, crowds: I64, step: int) -> int:
    """How many steps after this one the first request ends, of at least one."""
    last = endings.shape[0] - 1
    ahead = 1
    while endings[(step + ahead) & last, HEAD] < 0:
        ahead += 1
        if (step + ahead) % GROUP == 0:
            while crowds[((step + ahead) & last) // GROUP] == 0:
                ahead += GROUP
    return ahead
