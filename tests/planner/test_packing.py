"""The compiled list scheduler against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
from planning_problems import SmallNode, model, problem

from samullm_tui.planner.graph import llm_graph
from samullm_tui.planner.packing import Options, anneal, list_schedule


def options(seconds: list[list[float]], gpus: list[list[int]], islands: list[int]) -> Options:
    """Every option one placement of tp 1 on so many GPUs, no sources."""
    dp = np.array(gpus, dtype=np.int64)[:, :, None]
    units = len(seconds)
    return Options(
        np.ones_like(dp),
        dp,
        np.array(seconds),
        np.full(units, len(seconds[0]), dtype=np.int64),
        np.zeros((units, units), dtype=bool),
        np.array(islands, dtype=np.int64),
    )


def ends(of: Options, order: list[int], choice: list[int], beside: list[bool]) -> list[float]:
    arrays = (np.array(order), np.array(choice), np.array(beside))
    return [float(end) for end in list_schedule(of, *arrays)]


def test_units_wait_for_gpus_in_their_order() -> None:
    of = options([[4.0], [3.0], [2.0]], [[1], [1], [2]], [2])
    assert ends(of, [0, 1, 2], [0, 0, 0], [False] * 3) == [4.0, 3.0, 6.0]
    assert ends(of, [2, 0, 1], [0, 0, 0], [False] * 3) == [6.0, 5.0, 2.0]


def test_a_smaller_unit_passes_one_that_does_not_fit() -> None:
    of = options([[4.0], [3.0], [2.0]], [[1], [2], [1]], [2])
    assert ends(of, [0, 1, 2], [0, 0, 0], [False] * 3) == [4.0, 7.0, 2.0]


def test_a_group_stays_inside_one_island() -> None:
    of = options([[4.0], [3.0]], [[1], [1]], [1, 1])
    wide = of._replace(tp=np.array([[[1]], [[2]]]))
    assert ends(wide, [0, 1], [0, 0], [False] * 2) == [4.0, np.inf]


def test_a_consumer_waits_or_runs_beside() -> None:
    of = options([[4.0], [3.0]], [[1], [1]], [2])
    of.feeds[0, 1] = True
    assert ends(of, [1, 0], [0, 0], [False, False]) == [4.0, 7.0]
    assert ends(of, [0, 1], [0, 0], [False, True]) == [4.0, 4.0]


def test_annealing_finds_the_best_of_a_small_table() -> None:
    of = options([[8.0, 4.5]] * 4, [[1, 2]] * 4, [4])
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        order, choice, beside = np.arange(4), rng.integers(0, 2, 4), np.zeros(4, dtype=bool)
        anneal(of, order, choice, beside, rng.random((2000, 4)))
        assert sorted(order.tolist()) == [0, 1, 2, 3]
        found.append(max(ends(of, order.tolist(), choice.tolist(), beside.tolist())))
    assert min(found) == 8.0, "each on one GPU, not two by two"


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
