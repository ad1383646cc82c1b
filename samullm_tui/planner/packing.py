"""List scheduling on a table of durations, and annealing over it, compiled: some 200,000 schedules a second.

U units, each with K options of at most M placements (tp, dp); dp 0 is none. Arrays say what the functions need;
randomness comes in as numbers drawn before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from samullm_tui.domain.request import IntArray

__all__ = ["Bools", "Options", "anneal", "list_schedule"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
WAITING, RUNNING, FINISHED = 0, 1, 2
HOT, COLD = 0.1, 0.0005
"""Temperatures at the beginning and the end, as shares of the first value."""
MEAN_END, GPU_TIME = 0.03, 0.3
"""Weights beside the makespan's 1: the best of several on the shipped applications."""


class Options(NamedTuple):
    """What a schedule chooses from.

    tp, dp   [U, K, M]; seconds [U, K] with loads; most [U] the options that each unit has
    feeds    [U, U] whether the row's unit is a source of the column's
    islands  [I] GPUs of each island
    """

    tp: IntArray
    dp: IntArray
    seconds: Floats
    most: IntArray
    feeds: Bools
    islands: IntArray


def _take_loop(free: IntArray, used: IntArray, tp: int, dp: int) -> bool:
    """`dp` groups of `tp` GPUs, each from the island with the least room that is enough. Notes them in `used`."""
    for _ in range(dp):
        best = -1
        for island in range(len(free)):
            if free[island] >= tp and (best < 0 or free[island] < free[best]):
                best = island
        if best < 0:
            return False
        free[best] -= tp
        used[best] += tp
    return True


_take = njit(cache=True)(_take_loop)


def _start_s_loop(options: Options, unit: int, beside: bool, state: IntArray, ends_s: Floats) -> float:
    """The end of the unit's sources; inf when it may not start yet."""
    latest_s = 0.0
    for source in range(len(state)):
        if options.feeds[source, unit]:
            if state[source] == WAITING or (state[source] == RUNNING and not beside):
                return np.inf
            latest_s = max(latest_s, ends_s[source])
    return latest_s


_sources_end_s = njit(cache=True)(_start_s_loop)


def _fit_loop(options: Options, unit: int, option: int, free: IntArray, used: IntArray) -> bool:
    """Takes the unit's GPUs, or none."""
    for k in range(options.tp.shape[2]):
        if not _take(free, used, options.tp[unit, option, k], options.dp[unit, option, k]):
            free += used
            used[:] = 0
            return False
    return True


_fit = njit(cache=True)(_fit_loop)


def _list_schedule_loop(options: Options, order: IntArray, choice: IntArray, beside: Bools) -> Floats:
    units = len(order)
    ends_s, state = np.full(units, np.inf), np.zeros(units, np.int64)
    used = np.zeros((units, len(options.islands)), np.int64)
    free = options.islands.copy()
    now_s = 0.0
    while now_s < np.inf:
        for unit in order:
            if state[unit] == WAITING:
                sources_s = _sources_end_s(options, unit, beside[unit], state, ends_s)
                if sources_s < np.inf and _fit(options, unit, choice[unit], free, used[unit]):
                    state[unit] = RUNNING
                    ends_s[unit] = max(now_s + options.seconds[unit, choice[unit]], sources_s)
        now_s = np.inf
        for unit in range(units):
            if state[unit] == RUNNING:
                now_s = min(now_s, ends_s[unit])
        for unit in range(units):
            if state[unit] == RUNNING and ends_s[unit] <= now_s:
                state[unit] = FINISHED
                free += used[unit]
    return ends_s


list_schedule = njit(cache=True)(_list_schedule_loop)
"""(options, order [U], choice [U], beside [U]) → [U] seconds at which each unit ends, inf for one that never starts.

Whenever GPUs are free, the units of `order` that may start and fit get GPUs for their option `choice`, the first first.
A unit may start when its sources have finished, or beside them where `beside` says so; then it ends no sooner than they.
"""


def _value_loop(options: Options, order: IntArray, choice: IntArray, beside: Bools) -> float:
    """The makespan, and some of the mean end and of the GPU time taken, so that a plateau has a slope."""
    ends_s = list_schedule(options, order, choice, beside)
    gpu_s = 0.0
    for unit in range(len(order)):
        option = choice[unit]
        gpus = (options.tp[unit, option] * options.dp[unit, option]).sum()
        gpu_s += gpus * options.seconds[unit, option]
    return float(ends_s.max() + MEAN_END * ends_s.mean() + GPU_TIME * gpu_s / options.islands.sum())


_value = njit(cache=True)(_value_loop)


def _move_loop(options: Options, order: IntArray, choice: IntArray, beside: Bools, draw: Floats) -> None:
    """One unit elsewhere in the order, in another option, or after its sources instead of beside them."""
    units = len(order)
    place = int(draw[1] * units)
    unit = order[place]
    if draw[0] < 0.5:
        target = int(draw[2] * units)
        step = 1 if target > place else -1
        for k in range(place, target, step):
            order[k] = order[k + step]
        order[target] = unit
    elif draw[0] < 0.6:
        beside[unit] = not beside[unit]
    else:
        near = choice[unit] + int(draw[2] * 9) - 4
        choice[unit] = min(max(near, 0), options.most[unit] - 1)


_move = njit(cache=True)(_move_loop)


def _anneal_loop(options: Options, order: IntArray, choice: IntArray, beside: Bools, draws: Floats) -> float:
    value = first = best = _value(options, order, choice, beside)
    kept = (order.copy(), choice.copy(), beside.copy())
    now = (order.copy(), choice.copy(), beside.copy())
    for step in range(len(draws)):
        after = (now[0].copy(), now[1].copy(), now[2].copy())
        _move(options, after[0], after[1], after[2], draws[step])
        changed = _value(options, after[0], after[1], after[2])
        heat = first * HOT * (COLD / HOT) ** (step / len(draws))
        if changed <= value or draws[step, 3] < np.exp((value - changed) / heat):
            now, value = after, changed
            if value < best:
                kept, best = (now[0].copy(), now[1].copy(), now[2].copy()), value
    order[:], choice[:], beside[:] = kept
    return float(best)


anneal = njit(cache=True)(_anneal_loop)
"""(options, order, choice, beside, draws [steps, 4] in 0 … 1) → the best value found (see `_value_loop`); writes its schedule in place."""
