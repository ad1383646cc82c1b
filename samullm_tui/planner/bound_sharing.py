"""How few GPUs can serve all LLMs in time when LLMs that share GPUs must be loaded again; see `planner.bound` for why."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["MOST_LLMS", "least_gpus"]

Floats = npt.NDArray[np.float64]
MOST_LLMS = 11
"""Ways of sharing are tried for so many LLMs: their number grows as 3 to the power of it."""


def _least_gpus_loop(area: Floats, load_s: Floats, overlap_s: float, makespan_s: float) -> float:
    llms = len(load_s)
    own = np.full(1 << llms, np.inf)
    best = np.full(1 << llms, np.inf)
    best[0] = 0.0
    for some in range(1, 1 << llms):
        first = 0
        while not some >> first & 1:
            first += 1
        needed, members = 0.0, 0
        for llm in range(first, llms):
            if some >> llm & 1:
                needed += area[first, llm]
                members += 1
        each_s = makespan_s - load_s[first]
        if each_s > 0 and needed < np.inf:
            needed += (members - 1) * (load_s[first] - overlap_s)
            own[some] = max(1.0, np.ceil(needed / each_s - 1e-9))
        rest = some ^ (1 << first)
        others = rest
        while True:  # `others` goes through all that do not share with `first`
            best[some] = min(best[some], own[some ^ others] + best[others])
            if others == 0:
                break
            others = (others - 1) & rest
    return float(best[-1])


_least_gpus = njit(cache=True)(_least_gpus_loop)


def least_gpus(area: Floats, load_s: Floats, overlap_s: float, makespan_s: float) -> float:
    """The fewest GPUs on which all LLMs can finish by makespan_s; inf when no number is enough.

    load_s [k] the shortest load of each LLM, ascending, none shorter than overlap_s; area [i, l] GPU-seconds that LLM l
    needs when load_s[i] is taken off each load on each GPU.
    """
    return float(_least_gpus(area, load_s, overlap_s, makespan_s))
