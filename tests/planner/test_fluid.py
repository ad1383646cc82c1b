"""Applications as fluids, against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from planning_problems import SmallNode, ensemble, model, problem

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.annealing import anneal, move
from samullm_tui.planner.fluid import Options, fresh_fluids, roll_out
from samullm_tui.planner.graph import llm_graph
from samullm_tui.planner.outlook import Task
from samullm_tui.planner.schedule import Table


def options(
    work: list[list[float]], gpus: list[list[int]], islands: list[int], load_s: float = 0.0
) -> Options:
    """Every option one placement of tp 1 on so many GPUs, evenly progressing for so many seconds; no sources."""
    dp = np.array(gpus, dtype=np.int64)[:, :, None]
    seconds = np.array(work)
    units, there = len(work), np.array(islands, dtype=np.int64)
    return Options(
        tp=np.ones_like(dp),
        dp=dp,
        curve=seconds[:, :, None] * np.linspace(0, 1, 9),
        path_s=np.full(seconds.shape, 1e-9),
        load_s=np.full(seconds.shape, load_s),
        most=np.full(units, len(work[0]), dtype=np.int64),
        feeds=np.zeros((units, units), dtype=bool),
        islands=there,
        begun=fresh_fluids(units, there),
    )


def ends(
    of: Options, moves: list[tuple[int, int]], beside: list[bool] | None = None, *, grows: bool = False
) -> list[float]:
    scratch = fresh_fluids(len(of.most), of.islands, len(moves))
    chosen = np.array(beside or [True] * len(of.most))
    makespan_s, _, _ = roll_out(of, np.array(moves), chosen, grows, scratch)
    assert makespan_s == max(scratch.end_s)
    return [pytest.approx(float(end)) for end in scratch.end_s]


def test_units_wait_for_gpus_in_their_order() -> None:
    of = options([[4.0], [3.0], [2.0]], [[1], [1], [2]], [2])
    assert ends(of, [(0, 0), (1, 0), (2, 0)]) == [4.0, 3.0, 6.0]
    assert ends(of, [(2, 0), (0, 0), (1, 0)]) == [6.0, 5.0, 2.0]


def test_a_smaller_unit_passes_one_that_does_not_fit() -> None:
    of = options([[4.0], [3.0], [2.0]], [[1], [2], [1]], [2])
    assert ends(of, [(0, 0), (1, 0), (2, 0)]) == [4.0, 7.0, 2.0]


def test_a_group_stays_inside_one_island() -> None:
    of = options([[4.0], [3.0]], [[1], [1]], [1, 1])
    wide = of._replace(tp=np.array([[[1]], [[2]]]))
    assert ends(wide, [(0, 0), (1, 0)]) == [4.0, np.inf]


def test_a_consumer_waits_or_runs_beside_and_ends_after_its_source() -> None:
    of = options([[4.0], [3.2]], [[1], [1]], [2])
    of.feeds[0, 1] = True
    assert ends(of, [(1, 0), (0, 0)], [False, False]) == [4.0, 7.2]
    assert ends(of, [(0, 0), (1, 0)], [False, True]) == [4.0, 4.4], (
        "an eighth of its work comes after the source"
    )


def test_a_later_move_changes_the_size_at_the_same_share_of_work() -> None:
    of = options([[8.0, 4.0], [2.0, 1.0]], [[1, 2], [1, 2]], [2])
    assert ends(of, [(0, 0), (1, 0), (0, 1)]) == [5.0, 2.0], "a quarter alone in 2 s, then twice as fast"
    assert ends(of, [(0, 1), (0, 0), (1, 0)]) == [4.0, 6.0], "nothing has ended that would let it change"


def test_a_new_replica_is_waited_for_while_the_old_one_goes_on() -> None:
    of = options([[8.0, 4.0], [2.0, 1.0]], [[1, 2], [1, 2]], [2], load_s=1.0)
    assert ends(of, [(0, 0), (1, 0), (0, 1)]) == [6.5, 3.0], (
        "2 of 8 s done at 3 s, 3 at 4 s; the rest twice as fast"
    )


def test_free_gpus_go_to_what_ends_last_unless_that_saves_nothing() -> None:
    of = options([[8.0, 4.0], [2.0, 1.0]], [[1, 2], [1, 2]], [2])
    assert ends(of, [(0, 0), (1, 0)], grows=True) == [5.0, 2.0]
    slow = options([[8.0, 4.0], [2.0, 1.0]], [[1, 2], [1, 2]], [2], load_s=6.0)
    assert ends(slow, [(0, 0), (1, 0)], grows=True) == [14.0, 8.0]


def test_the_longest_chain_does_not_get_shorter_with_more_replicas() -> None:
    of = options([[8.0, 4.0]], [[1, 2]], [2])._replace(path_s=np.array([[6.0, 6.0]]))
    assert ends(of, [(0, 1)]) == [6.0]
    assert ends(of, [(0, 0)]) == [8.0]


def test_moves_keep_a_schedule_one_that_starts_every_unit() -> None:
    of = options([[4.0, 2.0]] * 3, [[1, 2]] * 3, [2])
    rng = np.random.default_rng(0)
    moves, beside = np.full((9, 2), -1), np.ones(3, dtype=bool)
    moves[:3] = [(0, 0), (1, 0), (2, 0)]
    lengths = set()
    for draw in rng.random((2000, 4)):
        move(of, moves, beside, draw)
        count = int((moves[:, 0] >= 0).sum())
        lengths.add(count)
        assert set(moves[:count, 0].tolist()) == {0, 1, 2}
        assert (moves[count:, 0] == -1).all()
        assert ((moves[:count, 1] >= 0) & (moves[:count, 1] < 2)).all()
    assert lengths == set(range(3, 10))


def annealed(of: Options, rng: np.random.Generator) -> float:
    units = len(of.most)
    moves: IntArray = np.full((3 * units, 2), -1)
    moves[:units] = [(unit, int(rng.integers(2))) for unit in range(units)]
    beside, scratch = np.zeros(units, dtype=bool), fresh_fluids(units, of.islands, len(moves))
    room = (moves.copy(), moves.copy(), beside.copy(), beside.copy())
    anneal(of, moves, beside, rng.random((2000, 5)), 0.05, room, scratch)
    return roll_out(of, moves, beside, True, scratch)[0]


def test_annealing_finds_the_best_of_a_small_table() -> None:
    of = options([[8.0, 4.5]] * 4, [[1, 2]] * 4, [4])
    found = [annealed(of, np.random.default_rng(seed)) for seed in range(6)]
    assert min(found) == pytest.approx(8.0), "each on one GPU, not two by two"


def test_curves_end_where_an_llm_alone_ends() -> None:
    some = ensemble(llms=2)
    table = Table(Task(some, np.full(len(some.table), 40)))
    curve = table.options.curve
    assert (np.diff(curve, axis=2) >= 0).all()
    assert (curve[:, :, 0] == 0).all()
    for u in range(2):
        one, two = (
            next(k for k, choice in enumerate(table.choices[u]) if choice == {u: (1, dp)}) for dp in (1, 2)
        )
        assert curve[u, two, -1] < curve[u, one, -1]


def test_circles_of_llms_are_one_unit_and_come_after_their_sources() -> None:
    llms = [model(name) for name in "zxy"]
    nodes = [
        SmallNode("x"),
        SmallNode("y", sources=(0,)),
        SmallNode("x", sources=(1,)),
        SmallNode("z", sources=(2,)),
    ]
    graph = llm_graph(problem(llms, nodes).table)
    assert graph.units == ((1, 2), (0,))
    assert graph.unit_sources((0,)) == {1}
    assert graph.unit_sources((1, 2)) == set()
