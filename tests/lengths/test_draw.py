"""Promises of drawing an output length for every request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.domain.request import RequestTable
from samullm_tui.lengths.distribution import LengthDistribution, Strata, from_samples
from samullm_tui.lengths.draw import cap, draw, expected

LONG = {"a": from_samples("a", [500, 700, 900], source="test"), "b": from_samples("b", [3, 4], source="test")}


def table_of(rows: list[dict[str, int]], parents: list[list[tuple[int, int]]] | None = None) -> RequestTable:
    """Requests from dicts; `parents[i]` lists (index, fed) of request i."""
    edges = parents or [[] for _ in rows]
    flat = [edge for of_request in edges for edge in of_request]

    def column(name: str, default: int) -> np.ndarray:
        return np.array([row.get(name, default) for row in rows], dtype=np.int64)

    return RequestTable(
        ids=[str(i) for i in range(len(rows))],
        records=[str(i) for i in range(len(rows))],
        llm_names=("a", "b"),
        node_names=("node",),
        llm=column("llm", 0),
        node=column("node", 0),
        prompt_tokens=column("prompt", 10),
        max_tokens=column("max", 10_000),
        known_tokens=column("known", -1),
        group=column("group", -1),
        parent_start=np.cumsum([0, *map(len, edges)]),
        parents=np.array([parent for parent, _ in flat], dtype=np.int64),
        fed=np.array([fed for _, fed in flat], dtype=np.int64),
    )


def drawn(table: RequestTable, context: tuple[int, int] = (4096, 4096), seed: int = 0) -> list[int]:
    return draw(table, LONG, np.array(context), np.random.default_rng(seed)).tolist()


def test_each_llm_draws_from_its_own_distribution() -> None:
    lengths = drawn(table_of([{"llm": i % 2} for i in range(200)]))
    assert set(lengths[0::2]) == {500, 700, 900}
    assert set(lengths[1::2]) == {3, 4}


def test_a_known_length_is_kept_and_an_unknown_llm_is_an_error_only_when_drawn() -> None:
    table = table_of([{"known": 77}, {"known": 0}])
    nothing = draw(table, {}, np.array([4096, 4096]), np.random.default_rng(0))
    assert nothing.tolist() == [77, 1]
    with pytest.raises(KeyError, match="a"):
        draw(table_of([{}]), {}, np.array([4096, 4096]), np.random.default_rng(0))


def test_caps_are_max_tokens_and_what_the_prompt_leaves() -> None:
    table = table_of([{"max": 20}, {"prompt": 4000}, {"prompt": 5000}, {"known": 9999, "prompt": 96}])
    assert drawn(table) == [20, 96, 1, 4000]


def test_an_output_that_is_fed_takes_room_and_one_that_is_only_awaited_does_not() -> None:
    rows = [{"known": 600, "prompt": 0}, {"known": 900, "prompt": 100}, {"known": 900, "prompt": 100}]
    assert drawn(table_of(rows, [[], [(0, 1)], [(0, 0)]]), context=(1000, 1000)) == [600, 300, 900]


def test_in_a_chain_the_capped_output_counts_not_the_drawn_one() -> None:
    rows = [
        {"known": 5000, "max": 100, "prompt": 0},
        {"known": 5000, "prompt": 0},
        {"known": 5000, "prompt": 0},
    ]
    assert drawn(table_of(rows, [[], [(0, 1)], [(0, 1), (1, 1)]]), context=(1000, 1000)) == [100, 900, 1]


def by_prompt() -> LengthDistribution:
    """Answers of 10 or 20 tokens to prompts of at most 100, of 200 or 400 to those up to 500, else of 3,000."""
    parts = tuple(from_samples("a", lengths, source="t") for lengths in ([10, 20], [200, 400], [3000]))
    pooled = from_samples("a", [10, 20, 200, 400, 3000], source="t")
    return replace(pooled, strata=Strata(np.array([100, 500]), parts))


def conditional(table: RequestTable, seed: int = 0) -> list[int]:
    distributions = {"a": by_prompt(), "b": LONG["b"]}
    return draw(table, distributions, np.array([4096, 4096]), np.random.default_rng(seed)).tolist()


def test_where_prompts_matter_each_request_draws_from_the_stratum_of_its_prompt() -> None:
    lengths = conditional(table_of([{"prompt": p} for p in (1, 100, 101, 500, 501, 999)] * 50))
    assert set(lengths[0::6] + lengths[1::6]) == {10, 20}
    assert set(lengths[2::6] + lengths[3::6]) == {200, 400}
    assert set(lengths[4::6] + lengths[5::6]) == {3000}


def test_the_outputs_that_are_fed_count_as_prompt_and_those_that_are_awaited_do_not() -> None:
    rows = [{"known": 450}, {"prompt": 60}, {"prompt": 60}, {"prompt": 60}, {"llm": 1, "prompt": 60}]
    parents = [[], [(0, 1)], [(0, 0)], [(0, 1), (1, 1)], [(0, 1)]]
    for seed in range(20):
        _, fed, awaited, both, other = conditional(table_of(rows, parents), seed)
        assert fed == 3000
        assert awaited in {10, 20}
        assert both == 4096 - 60 - 450 - 3000
        assert other in {3, 4}


def test_a_chain_whose_outputs_grow_the_prompt_walks_through_the_strata() -> None:
    rows = [{"prompt": 90}, {"prompt": 90}, {"prompt": 90}]
    first, second, third = conditional(table_of(rows, [[], [(0, 1)], [(0, 1), (1, 1)]]), seed=3)
    assert first in {10, 20}
    assert second in ({10, 20} if 90 + first <= 100 else {200, 400})
    assert third == (3000 if 90 + first + second > 500 else third)


def test_strata_change_no_level_so_that_other_requests_draw_as_before() -> None:
    rows = [{"llm": i % 2, "prompt": 7 * i} for i in range(100)]
    parents = [[(i - 1, 1)] if i % 5 == 4 else [] for i in range(100)]
    without, with_strata = drawn(table_of(rows, parents)), conditional(table_of(rows, parents))
    assert without[1::2] == with_strata[1::2]


requests = st.fixed_dictionaries(
    {
        "llm": st.integers(0, 1),
        "prompt": st.integers(0, 6000),
        "max": st.integers(1, 1200),
        "known": st.integers(-1, 2000),
    }
)


@given(st.lists(requests, min_size=1, max_size=40), st.data(), st.integers(0, 1000))
def test_every_length_is_at_least_one_and_within_every_cap(
    rows: list[dict[str, int]], data: st.DataObject, seed: int
) -> None:
    parents: list[list[tuple[int, int]]] = []
    for i in range(len(rows)):
        few = st.lists(st.integers(0, i - 1), max_size=3, unique=True) if i else st.just([])
        parents.append([(p, data.draw(st.integers(0, 1))) for p in data.draw(few)])
    table = table_of(rows, parents)
    context = (4096, 2048)
    lengths = drawn(table, context, seed)
    assert lengths == drawn(table, context, seed)
    for i, row in enumerate(rows):
        fed = sum(lengths[p] for p, is_fed in parents[i] if is_fed)
        assert 1 <= lengths[i] <= row["max"]
        assert lengths[i] == 1 or row["prompt"] + fed + lengths[i] <= context[row["llm"]]
    assert cap(table, np.array(lengths), np.array(context)).tolist() == lengths


def test_lengths_to_expect_are_the_means_of_what_is_drawn() -> None:
    rows = [{"llm": 0}, {"llm": 0, "max": 600}, {"llm": 1}, {"llm": 1, "known": 77}, {"llm": 0}]
    table = table_of(rows, [[], [], [], [], [(0, 1)]])
    guess = expected(table, LONG, np.array([4096, 4096]))
    means = np.mean([drawn(table, seed=seed) for seed in range(600)], axis=0)
    assert guess[:4].tolist() == [700, 567, 4, 77]
    assert np.abs(guess - means).max() < 20
    assert expected(table, LONG, np.array([1000, 4096]))[4] == 1000 - 10 - 700
