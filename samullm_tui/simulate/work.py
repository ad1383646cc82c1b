"""What each engine of a stage did, as far as the stage's own figures do not say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from samullm_tui.domain.plan import Replica
from samullm_tui.simulate.state import BUSY, CLOCK, DONE, ENGINE, FINISH, PHASE, State, compiled

__all__ = ["EngineWork", "works"]

F64 = npt.NDArray[np.float64]


class EngineWork(Struct, frozen=True):
    """One engine in one stage.

    steps_s     seconds of the steps that began in the stage; the last may end after it
    clock_s     the end of its last step, or when it is loaded
    work_end_s  when the last request dealt to it finished; inf while some are unfinished, -inf without any
    """

    replica: Replica
    steps_s: float
    clock_s: float
    work_end_s: float


def works(s: State, replicas: Sequence[Replica]) -> tuple[EngineWork, ...]:
    """In the order of `replicas`, once the stage has been served."""
    ends_s = np.full(len(replicas), -np.inf)
    last_finishes(s, ends_s)
    return tuple(
        EngineWork(replica, float(s.clock[e, BUSY]), float(s.clock[e, CLOCK]), float(ends_s[e]))
        for e, replica in enumerate(replicas)
    )


@compiled
def last_finishes(s: State, ends_s: F64) -> None:
    for r in range(s.req.shape[0]):
        e = s.req[r, ENGINE]
        if e >= 0:
            finish_s = s.times[r, FINISH] if s.req[r, PHASE] >= DONE else np.inf
            ends_s[e] = max(ends_s[e], finish_s)
