"""GPU assignment: what fits is found, what runs stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from planning_problems import SmallNode, model, problem

from samullm_tui.domain.plan import Replica
from samullm_tui.planner.shapes import Size, pack, sizes_of


def test_sizes_stay_inside_islands_and_the_cluster() -> None:
    some = problem([model("x", tps=(1, 2, 4))], [SmallNode("x")], gpus=6, island=4)
    sizes = sizes_of(some.llms[0], some)
    assert {s.dp for s in sizes if s.tp == 1} == {1, 2, 3, 4, 5, 6}
    assert {s.dp for s in sizes if s.tp == 2} == {1, 2, 3}
    assert {s.dp for s in sizes if s.tp == 4} == {1}


@given(st.lists(st.sampled_from([Size(1, 1), Size(2, 1), Size(4, 1), Size(1, 3), Size(2, 2)]), max_size=6))
def test_powers_of_two_that_add_up_to_the_cluster_always_fit(sizes: list[Size]) -> None:
    some = problem([model("x")], [SmallNode("x")], gpus=8, island=4)
    placed = pack(some, {f"llm{k}": size for k, size in enumerate(sizes)})
    assert (placed is not None) == (sum(size.gpus for size in sizes) <= 8)
    if placed:
        used = [gpu for p in placed for gpu in p.gpus]
        assert len(used) == len(set(used))
        assert all(any(set(r.gpus) <= set(i) for i in some.islands) for p in placed for r in p.replicas)


def test_a_running_replica_keeps_its_gpus() -> None:
    some = problem([model("x"), model("y")], [SmallNode("x")], gpus=4)
    running = frozenset({Replica("x", (3,)), Replica("y", (0, 1))})
    placed = pack(some, {"x": Size(1, 2), "y": Size(2, 1)}, running)
    assert placed is not None
    assert {p.llm: set(p.gpus) for p in placed} == {"x": {2, 3}, "y": {0, 1}}


def test_a_small_replica_moves_to_clear_an_island() -> None:
    some = problem([model("x"), model("y")], [SmallNode("x")], gpus=4)
    running = frozenset({Replica("x", (0,)), Replica("x", (2,))})
    placed = pack(some, {"x": Size(1, 2), "y": Size(2, 1)}, running)
    assert placed is not None
    gpus = {p.llm: set(p.gpus) for p in placed}
    assert gpus["y"] in ({0, 1}, {2, 3})
    assert len(gpus["x"] & {0, 2}) == 1, "one of the two stays where it is"


def test_what_does_not_fit_is_refused() -> None:
    some = problem([model("x")], [SmallNode("x")], gpus=4)
    assert pack(some, {"x": Size(1, 3), "y": Size(2, 1)}) is None
    assert pack(some, {"x": Size(4, 1)}) is None
