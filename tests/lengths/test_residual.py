"""Promises of the rest of an answer that has produced some tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.distribution import LengthDistribution, Strata, from_pmf, from_samples
from samullm_tui.lengths.residual import excess, residual_mean, sample_residual
from samullm_tui.lengths.survival import kaplan_meier

tables = st.lists(st.tuples(st.integers(1, 200), st.floats(0.01, 1)), min_size=1, max_size=20).map(
    lambda rows: from_pmf("x", *zip(*rows, strict=True), source="test", samples=100)
)


@given(tables, st.lists(st.integers(0, 400), min_size=1, max_size=20), st.integers(0, 1000))
def test_every_request_becomes_longer_than_it_is(
    table: LengthDistribution, produced: list[int], seed: int
) -> None:
    drawn = sample_residual(table, produced, np.random.default_rng(seed))
    assert (drawn > np.array(produced)).all()
    inside = np.array(produced) < table.max
    assert set(drawn[inside].tolist()) <= set(table.tokens.tolist())
    assert drawn.tolist() == sample_residual(table, produced, np.random.default_rng(seed)).tolist()
    assert (residual_mean(table, produced) >= np.array(produced) + 1 - 1e-6).all()


@given(tables, st.integers(0, 250))
def test_the_mean_is_that_of_the_lengths_that_are_left(table: LengthDistribution, produced: int) -> None:
    (mean,) = residual_mean(table, [produced])
    longer = table.tokens > produced
    if longer.any():
        shares = np.diff(table.cumulative, prepend=0.0)[longer]
        assert mean == pytest.approx(float(table.tokens[longer] @ shares / shares.sum()), rel=1e-6)
    else:
        assert mean == produced + excess(table)


@given(tables)
def test_many_means_at_once_are_the_same_as_one_by_one(table: LengthDistribution) -> None:
    produced = np.arange(3000) % 250
    one_by_one = np.concatenate([residual_mean(table, part) for part in np.split(produced, 6)])
    np.testing.assert_allclose(residual_mean(table, produced), one_by_one)


def test_draws_follow_the_conditional_distribution() -> None:
    table = from_samples("x", np.ceil(np.random.default_rng(0).lognormal(5, 1, 20_000)), source="test")
    produced, n = 180, 20_000
    drawn = sample_residual(table, np.full(n, produced), np.random.default_rng(1))
    longer = (table.cdf(table.tokens) - table.cdf(produced)) / (1 - table.cdf(produced))
    seen = from_samples("y", drawn, source="test").cdf(table.tokens)
    assert np.abs(seen - longer.clip(0)).max() < np.sqrt(np.log(2 / 0.001) / (2 * n))
    assert drawn.mean() == pytest.approx(residual_mean(table, [produced])[0], rel=0.02)


def test_nothing_produced_is_a_draw_from_the_whole_distribution() -> None:
    table = from_samples("x", range(1, 1001), source="test")
    drawn = sample_residual(table, np.zeros(20_000, dtype=int), np.random.default_rng(2))
    assert np.abs(from_samples("y", drawn, source="t").cdf(table.tokens) - table.cumulative).max() < 0.014
    assert residual_mean(table, [0])[0] == pytest.approx(table.mean)


def test_beyond_the_longest_length_the_rest_is_memoryless_with_the_tails_mean_excess() -> None:
    # The excess of an exponential distribution is its mean, wherever one looks.
    samples = np.ceil(stats.expon(scale=300).rvs(20_000, random_state=np.random.default_rng(3)))
    table = from_samples("x", samples, source="test")
    assert excess(table) == pytest.approx(300, rel=0.07)
    for produced in (table.max, 10 * table.max):
        drawn = sample_residual(table, np.full(20_000, produced), np.random.default_rng(4)) - produced
        assert drawn.min() >= 1
        assert drawn.mean() == pytest.approx(excess(table), rel=0.05)


def test_where_the_longest_tenth_is_of_one_length_the_exponential_fit_says_how_far_it_goes() -> None:
    assert excess(from_samples("x", [40] * 10, source="test")) == 40
    cut = kaplan_meier("x", Answers.of([10] * 5 + [100] * 5, [True] * 5 + [False] * 5), source="test")
    assert excess(cut) == pytest.approx(550 / 5 / 1)
    assert excess(kaplan_meier("x", Answers.of([64] * 4, False), source="test")) == 64


def test_requests_of_different_prompts_take_their_own_stratum() -> None:
    short, long = from_samples("s", [10, 20], source="t"), from_samples("l", [1000, 2000], source="t")
    pooled = from_samples("p", [10, 20, 1000, 2000], source="t")
    table = LengthDistribution(
        "x", pooled.tokens, pooled.cumulative, "t", 4, strata=Strata(np.array([100]), (short, long))
    )
    means = residual_mean(table, [0, 10, 0, 1000], [100, 5, 101, 9999])
    assert means.tolist() == [15, 20, 1500, 2000]
    drawn = sample_residual(table, np.array([10, 1000] * 50), np.random.default_rng(0), [5, 500] * 50)
    assert set(drawn[0::2].tolist()) == {20}
    assert set(drawn[1::2].tolist()) == {2000}
