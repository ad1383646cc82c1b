"""An application as fluids: each unit a share of work done, which grows along a measured curve. Compiled.

A *unit* is one LLM, or LLMs that can only run together. It has options: placements of so many GPUs, each with a curve,
the seconds of serving after which shares 0, 1/J … 1 of its work are done. A change of option in the middle goes on at
the same share on the other curve. That is what makes a plan cheap to judge: some 50,000 a second instead of some 20.

A *schedule* is a list of moves (unit, option) and, for each unit, whether it may run beside its sources. Whenever a
unit finishes, and at the beginning, the moves not made yet are looked at in their order:
- the first move of a unit starts it as soon as its sources allow and its GPUs are free; units that fit pass others;
- a later move of a unit changes its option once all moves before it are made, and a unit changes once at a time;
- when nothing waits to be started, free GPUs go to the unit that ends last, one replica after another, where that
  makes it end sooner by a margin.
Randomness comes in as numbers drawn before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.compiling import compiled

__all__ = [
    "FINISHED",
    "RUNNING",
    "WAITING",
    "Bools",
    "Floats",
    "Fluids",
    "Options",
    "begin",
    "decide",
    "end_of",
    "end_units",
    "fresh_fluids",
    "path_at",
    "roll_out",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
WAITING, RUNNING, FINISHED = 0, 1, 2
Done = tuple[float, float, float]
"""Shares of a unit's work and of its longest chain that are done at a time in seconds."""
GROWTH = 0.95
"""Free GPUs go to a running unit when it then ends within this share of its remaining time, the load included."""


class Fluids(NamedTuple):
    """Where everything stands at `changed_s` of each unit.

    phase     [U] WAITING, RUNNING, FINISHED
    option    [U] what it runs in; `serving` [U] what serves until `ready_s` [U] while new replicas load, -1: nothing
    share     [U] of its work done at `changed_s` [U]; `path` [U] of its longest chain
    own_s     [U] when it would finish by itself, inf for one that waits; `end_s` [U] its sources considered
    used      [U, I] GPUs it has in each island; `free` [I]
    made      [T] moves made, at most as many as there are moves; `touched` [U] units looked at in this round
    """

    phase: IntArray
    option: IntArray
    serving: IntArray
    changed_s: Floats
    ready_s: Floats
    share: Floats
    path: Floats
    own_s: Floats
    end_s: Floats
    used: IntArray
    free: IntArray
    made: Bools
    touched: Bools


class Options(NamedTuple):
    """What a schedule chooses from: U units, K options of at most M placements, I islands.

    tp, dp   [U, K, M]; dp 0 is no placement
    curve    [U, K, J + 1] seconds of serving until each share of the work is done
    path_s   [U, K] seconds of serving that the longest chain of requests needs, however many replicas there are
    load_s   [U, K] the longest load of the placements
    most     [U] the options that each unit has
    feeds    [U, U] whether the row's unit is a source of the column's
    islands  [I] GPUs of each island
    begun    where every schedule begins, at time 0
    """

    tp: IntArray
    dp: IntArray
    curve: Floats
    path_s: Floats
    load_s: Floats
    most: IntArray
    feeds: Bools
    islands: IntArray
    begun: Fluids


def fresh_fluids(units: int, islands: IntArray, moves: int = 0) -> Fluids:
    """Nothing runs, nothing is done, of so many moves none is made."""
    zeros = np.zeros(units)
    return Fluids(
        phase=np.full(units, WAITING, np.int64),
        option=np.full(units, -1, np.int64),
        serving=np.full(units, -1, np.int64),
        changed_s=zeros.copy(),
        ready_s=zeros.copy(),
        share=zeros.copy(),
        path=zeros.copy(),
        own_s=np.full(units, np.inf),
        end_s=np.full(units, np.inf),
        used=np.zeros((units, len(islands)), np.int64),
        free=islands.copy(),
        made=np.zeros(moves, np.bool_),
        touched=np.zeros(units, np.bool_),
    )


@compiled
def begin(options: Options, now: Fluids) -> None:
    """Everything as the options say that it begins, no move made."""
    begun = options.begun
    for unit in range(begun.phase.size):
        now.phase[unit] = begun.phase[unit]
        now.option[unit] = begun.option[unit]
        now.serving[unit] = begun.serving[unit]
        now.changed_s[unit] = begun.changed_s[unit]
        now.ready_s[unit] = begun.ready_s[unit]
        now.share[unit] = begun.share[unit]
        now.path[unit] = begun.path[unit]
        now.own_s[unit] = begun.own_s[unit]
        now.end_s[unit] = begun.end_s[unit]
        for island in range(begun.free.size):
            now.used[unit, island] = begun.used[unit, island]
    for island in range(begun.free.size):
        now.free[island] = begun.free[island]
    now.made[:] = False


@compiled
def served_s(curve: Floats, share: float) -> float:
    """Seconds of serving until `share` of the work is done."""
    last = curve.size - 1
    place = min(max(share, 0.0), 1.0) * last
    low = min(int(place), last - 1)
    return float(curve[low] + (curve[low + 1] - curve[low]) * (place - low))


@compiled
def share_after(curve: Floats, seconds: float) -> float:
    """The share of the work that is done after so many seconds of serving."""
    last = curve.size - 1
    if seconds >= curve[last]:
        return 1.0
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if curve[middle] <= seconds:
            low = middle
        else:
            high = middle
    width = curve[high] - curve[low]
    part = (seconds - curve[low]) / width if width > 0 else 0.0
    return (low + min(max(part, 0.0), 1.0)) / last


@compiled
def share_at(options: Options, now: Fluids, unit: int, at_s: float) -> float:
    """The share of a running unit's work that is done at `at_s`."""
    share, since_s = now.share[unit], now.changed_s[unit]
    old = now.serving[unit]
    if old >= 0:
        until_s = max(since_s, min(at_s, now.ready_s[unit]))
        curve = options.curve[unit, old]
        share = share_after(curve, served_s(curve, share) + until_s - since_s)
    if at_s <= now.ready_s[unit]:
        return float(share)
    curve = options.curve[unit, now.option[unit]]
    return share_after(curve, served_s(curve, share) + at_s - max(since_s, now.ready_s[unit]))


@compiled
def path_at(options: Options, now: Fluids, unit: int, at_s: float) -> float:
    """The share of a running unit's longest chain that is done at `at_s`."""
    since_s = now.changed_s[unit] if now.serving[unit] >= 0 else max(now.changed_s[unit], now.ready_s[unit])
    return float(now.path[unit] + max(0.0, at_s - since_s) / options.path_s[unit, now.option[unit]])


@compiled
def end_of(options: Options, unit: int, option: int, serving: int, done: Done, ready_s: float) -> float:
    """When a unit ends that changes to `option`, ready at `ready_s`, while `serving` goes on till then."""
    share, path, at_s = done
    from_s = at_s if serving >= 0 else max(at_s, ready_s)
    path_end_s = from_s + max(0.0, 1.0 - path) * options.path_s[unit, option]
    if serving >= 0 and ready_s > at_s:
        curve = options.curve[unit, serving]
        served = served_s(curve, share)
        end_s = at_s + curve[curve.size - 1] - served
        if end_s <= ready_s:
            return float(max(path_end_s, end_s))
        share = share_after(curve, served + ready_s - at_s)
    curve = options.curve[unit, option]
    return float(max(path_end_s, max(at_s, ready_s) + curve[curve.size - 1] - served_s(curve, share)))


@compiled
def take(free: IntArray, used: IntArray, tp: int, dp: int) -> bool:
    """`dp` groups of `tp` GPUs, each from the island with the least room that is enough, or none."""
    for k in range(dp):
        best = -1
        for island in range(free.size):
            if free[island] >= tp and (best < 0 or free[island] < free[best]):
                best = island
        if best < 0:
            give_back(free, used, tp, k)
            return False
        free[best] -= tp
        used[best] += tp
    return True


@compiled
def give_back(free: IntArray, used: IntArray, tp: int, dp: int) -> None:
    """`dp` groups of `tp` GPUs, from the last islands: those with the highest GPU numbers are the first to go."""
    for island in range(free.size - 1, -1, -1):
        while dp > 0 and used[island] >= tp:
            used[island] -= tp
            free[island] += tp
            dp -= 1


@compiled
def release(now: Fluids, unit: int) -> None:
    """All GPUs of the unit."""
    for island in range(now.free.size):
        now.free[island] += now.used[unit, island]
        now.used[unit, island] = 0


@compiled
def start(options: Options, now: Fluids, unit: int, option: int, at_s: float) -> bool:
    """Gives the unit its GPUs for the first time, or does nothing."""
    for k in range(options.tp.shape[2]):
        if not take(now.free, now.used[unit], options.tp[unit, option, k], options.dp[unit, option, k]):
            release(now, unit)
            return False
    now.phase[unit] = RUNNING
    done = (now.share[unit], now.path[unit], at_s)
    set_option(options, now, unit, option, -1, done, at_s + options.load_s[unit, option])
    return True


@compiled
def set_option(
    options: Options, now: Fluids, unit: int, option: int, serving: int, done: Done, ready_s: float
) -> None:
    now.own_s[unit] = end_of(options, unit, option, serving, done, ready_s)
    now.option[unit] = option
    now.serving[unit] = serving
    now.share[unit], now.path[unit], now.changed_s[unit] = done
    now.ready_s[unit] = ready_s


@compiled
def change(options: Options, now: Fluids, unit: int, option: int, at_s: float) -> bool:
    """Moves a running unit of one placement to another option; false when its GPUs are not free."""
    old = now.option[unit]
    tp, dp = options.tp[unit, old, 0], options.dp[unit, old, 0]
    new_tp, new_dp = options.tp[unit, option, 0], options.dp[unit, option, 0]
    done = (share_at(options, now, unit, at_s), path_at(options, now, unit, at_s), at_s)
    loading = now.ready_s[unit] > at_s
    ready_s = at_s + options.load_s[unit, option]
    if new_tp != tp:
        give_back(now.free, now.used[unit], tp, dp)
        if not take(now.free, now.used[unit], new_tp, new_dp):
            take(now.free, now.used[unit], tp, dp)
            return False
        set_option(options, now, unit, option, -1, done, ready_s)
    elif new_dp > dp:
        if not take(now.free, now.used[unit], tp, new_dp - dp):
            return False
        serving = now.serving[unit] if loading else old
        set_option(options, now, unit, option, serving, done, ready_s)
    else:
        give_back(now.free, now.used[unit], tp, dp - new_dp)
        set_option(options, now, unit, option, -1, done, max(at_s, now.ready_s[unit]))
    return True


@compiled
def may_start(options: Options, now: Fluids, unit: int, beside: bool) -> bool:
    for source in range(now.phase.size):
        if options.feeds[source, unit] and (
            now.phase[source] == WAITING or (now.phase[source] == RUNNING and not beside)
        ):
            return False
    return True


@compiled
def make_moves(options: Options, moves: IntArray, beside: Bools, now: Fluids, at_s: float) -> bool:
    """One round over the moves [T, 2]. Returns whether a unit still waits to be started."""
    now.touched[:] = False
    waits = blocked = False
    for k in range(moves.shape[0]):
        unit, option = moves[k, 0], moves[k, 1]
        if unit < 0 or now.made[k]:
            continue
        if now.phase[unit] == FINISHED:
            now.made[k] = True
        elif now.touched[unit]:
            blocked = True
        elif now.phase[unit] == WAITING:
            now.touched[unit] = True
            if may_start(options, now, unit, beside[unit]) and start(options, now, unit, option, at_s):
                now.made[k] = True
            else:
                waits = blocked = True
        elif not blocked:
            now.touched[unit] = True
            now.made[k] = option == now.option[unit] or change(options, now, unit, option, at_s)
            blocked = not now.made[k]
    return waits


@compiled
def grow(options: Options, now: Fluids, at_s: float) -> None:
    """Free GPUs to the unit that ends last, one replica after another, then to the next."""
    now.touched[:] = False
    while True:
        last = -1
        for unit in range(now.phase.size):
            alone = options.dp.shape[2] == 1 or options.dp[unit, 0, 1] == 0
            latest = last < 0 or now.own_s[unit] > now.own_s[last]
            if now.phase[unit] == RUNNING and alone and not now.touched[unit] and latest:
                last = unit
        if last < 0:
            return
        now.touched[last] = True
        option = better(options, now, last, at_s)
        if option >= 0 and change(options, now, last, option, at_s):
            now.touched[last] = False


@compiled
def better(options: Options, now: Fluids, unit: int, at_s: float) -> int:
    """The option with the fewest replicas more that makes the unit end sooner by the margin; -1 for none."""
    old = now.option[unit]
    tp, dp = options.tp[unit, old, 0], options.dp[unit, old, 0]
    room = 0
    for island in range(now.free.size):
        room += now.free[island] // tp
    done = (share_at(options, now, unit, at_s), path_at(options, now, unit, at_s), at_s)
    serving = now.serving[unit] if now.ready_s[unit] > at_s else old
    left_s = now.own_s[unit] - at_s
    best, best_dp = -1, dp + room + 1
    for option in range(options.most[unit]):
        new_dp = options.dp[unit, option, 0]
        if options.tp[unit, option, 0] == tp and dp < new_dp < best_dp:
            ready_s = at_s + options.load_s[unit, option]
            if end_of(options, unit, option, serving, done, ready_s) - at_s < GROWTH * left_s:
                best, best_dp = option, new_dp
    return best


@compiled
def decide(options: Options, moves: IntArray, beside: Bools, now: Fluids, at_s: float, grows: bool) -> None:
    """What a schedule does at `at_s`, when something has finished or nothing runs yet. Changes `now`."""
    waits = make_moves(options, moves, beside, now, at_s)
    if grows and not waits:
        grow(options, now, at_s)


@compiled
def end_units(options: Options, now: Fluids) -> float:
    """No consumer ends before its sources and the last of its own work after them. Returns the first end."""
    first_s = np.inf
    for unit in range(now.phase.size):  # sources come first
        if now.phase[unit] != RUNNING:
            continue
        curve = options.curve[unit, now.option[unit]]
        tail_s = curve[curve.size - 1] - curve[curve.size - 2]
        now.end_s[unit] = now.own_s[unit]
        for source in range(unit):
            if options.feeds[source, unit]:
                now.end_s[unit] = max(now.end_s[unit], now.end_s[source] + tail_s)
        first_s = min(first_s, now.end_s[unit])
    return float(first_s)


@compiled
def roll_out(
    options: Options, moves: IntArray, beside: Bools, grows: bool, now: Fluids
) -> tuple[float, float, float]:
    """(makespan, mean end, GPU-seconds held) of a schedule in seconds, inf when it never ends.

    `now` is scratch; afterwards its `end_s` has the end of every unit.
    """
    begin(options, now)
    at_s = held_gpu_s = 0.0
    while True:
        decide(options, moves, beside, now, at_s, grows)
        next_s = end_units(options, now)
        if next_s == np.inf:
            break
        for island in range(now.free.size):
            held_gpu_s += (options.islands[island] - now.free[island]) * (next_s - at_s)
        at_s = next_s
        for unit in range(now.phase.size):
            if now.phase[unit] == RUNNING and now.end_s[unit] <= at_s:
                now.phase[unit] = FINISHED
                release(now, unit)
    total_s = makespan_s = 0.0
    for unit in range(now.phase.size):
        total_s += now.end_s[unit]
        makespan_s = max(makespan_s, now.end_s[unit])
    return makespan_s, total_s / now.phase.size, held_gpu_s
