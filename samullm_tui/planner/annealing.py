"""Annealing over schedules as fluids (see `fluid`). Compiled."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.compiling import compiled
from samullm_tui.planner.fluid import Bools, Floats, Fluids, Options, roll_out

__all__ = ["anneal", "move"]

COLD = 0.0005
"""The temperature at the end as a share of the first value."""
MEAN_END, GPU_TIME = 0.01, 0.1
"""Weights beside the makespan's 1: the best of several on the shipped applications."""


@compiled
def value(options: Options, moves: IntArray, beside: Bools, scratch: Fluids) -> float:
    """The makespan, and some of the mean end and of the GPU time held, so that a plateau has a slope."""
    makespan_s, mean_s, gpu_s = roll_out(options, moves, beside, True, scratch)
    gpus = 0
    for island in range(options.islands.size):
        gpus += options.islands[island]
    return float(makespan_s + MEAN_END * mean_s + GPU_TIME * gpu_s / gpus)


@compiled
def move(options: Options, moves: IntArray, beside: Bools, draw: Floats) -> None:
    """Changes a schedule in place: a move elsewhere in the order, another option, a further move, one less, or a unit
    after its sources instead of beside them. Rows of `moves` with unit -1, all at the end, are room for more.

    draw [4] numbers from 0 to 1.
    """
    count = 0
    while count < moves.shape[0] and moves[count, 0] >= 0:
        count += 1
    place = int(draw[1] * count)
    unit = moves[place, 0]
    if draw[0] < 0.4:
        shift(moves, place, int(draw[2] * count))
    elif draw[0] < 0.5:
        beside[unit] = not beside[unit]
    elif draw[0] < 0.8 or (draw[0] < 0.9 and count == moves.shape[0]):
        near = moves[place, 1] + int(draw[2] * 9) - 4
        moves[place, 1] = min(max(near, 0), options.most[unit] - 1)
    elif draw[0] < 0.9:
        near = moves[place, 1] + int(draw[2] * 9) - 4
        moves[count, 0] = unit
        moves[count, 1] = min(max(near, 0), options.most[unit] - 1)
        shift(moves, count, place + int(draw[3] * (count - place)) + 1)
    else:
        same = 0
        for k in range(count):
            same += moves[k, 0] == unit
        if same > 1:
            shift(moves, place, count - 1)
            moves[count - 1, 0] = -1


@compiled
def shift(moves: IntArray, place: int, target: int) -> None:
    """Takes one row out and puts it in elsewhere."""
    unit, option = moves[place, 0], moves[place, 1]
    step = 1 if target > place else -1
    for k in range(place, target, step):
        moves[k, 0] = moves[k + step, 0]
        moves[k, 1] = moves[k + step, 1]
    moves[target, 0] = unit
    moves[target, 1] = option


@compiled
def copy(moves: IntArray, beside: Bools, from_moves: IntArray, from_beside: Bools) -> None:
    for k in range(moves.shape[0]):
        moves[k, 0] = from_moves[k, 0]
        moves[k, 1] = from_moves[k, 1]
    for unit in range(beside.size):
        beside[unit] = from_beside[unit]


@compiled
def anneal(
    options: Options,
    moves: IntArray,
    beside: Bools,
    draws: Floats,
    hot: float,
    room: tuple[IntArray, IntArray, Bools, Bools],
    scratch: Fluids,
) -> float:
    """The best value found; `moves` and `beside` become its schedule.

    draws [steps, 5] numbers from 0 to 1; `hot` is the temperature at the beginning as a share of the first value; `room` two copies of moves and two of beside to write to.
    """
    current_moves, next_moves, current_beside, next_beside = room
    copy(current_moves, current_beside, moves, beside)
    first = current = best = value(options, moves, beside, scratch)
    for step in range(draws.shape[0]):
        copy(next_moves, next_beside, current_moves, current_beside)
        move(options, next_moves, next_beside, draws[step])
        changed = value(options, next_moves, next_beside, scratch)
        heat = first * hot * (COLD / hot) ** (step / draws.shape[0])
        if changed <= current or draws[step, 4] < np.exp((current - changed) / heat):
            copy(current_moves, current_beside, next_moves, next_beside)
            current = changed
            if current < best:
                copy(moves, beside, current_moves, current_beside)
                best = current
    return float(best)
