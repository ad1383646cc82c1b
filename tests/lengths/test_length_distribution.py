"""Promises of the empirical length distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.lengths.distribution import (
    LengthDistribution,
    bin_shares,
    from_pmf,
    from_quantiles,
    from_samples,
    quantile_levels,
)

lengths = st.lists(st.integers(1, 5000), min_size=1, max_size=60)
probabilities = st.lists(st.floats(0, 1), min_size=2, max_size=20).map(sorted)


def of(samples: list[int]) -> LengthDistribution:
    return from_samples("x", samples, source="test")


@given(lengths, probabilities)
def test_quantiles_rise_with_the_probability_and_stay_inside(samples: list[int], p: list[float]) -> None:
    quantiles = of(samples).quantile(p)
    assert (np.diff(quantiles) >= 0).all()
    assert min(samples) <= quantiles[0] <= quantiles[-1] <= max(samples)


@given(lengths)
def test_the_cdf_is_the_share_of_samples_up_to_a_length(samples: list[int]) -> None:
    x = np.arange(0, max(samples) + 2)
    share = (np.array(samples)[None, :] <= x[:, None]).mean(axis=1)
    np.testing.assert_allclose(of(samples).cdf(x), share, atol=1e-12)


@given(lengths, probabilities)
def test_quantile_is_the_inverse_of_the_cdf(samples: list[int], p: list[float]) -> None:
    distribution = of(samples)
    quantiles = distribution.quantile(p)
    assert (distribution.cdf(quantiles) >= np.array(p)).all()
    below = distribution.cdf(quantiles - 1)
    assert ((below < np.array(p)) | (quantiles == distribution.tokens[0])).all()


@given(lengths, st.integers(0, 2**32))
def test_samples_are_lengths_that_occur_and_repeat_with_the_seed(samples: list[int], seed: int) -> None:
    first = of(samples).sample(50, np.random.default_rng(seed))
    assert set(first.tolist()) <= set(samples)
    assert first.dtype == np.int64
    assert (first == of(samples).sample(50, np.random.default_rng(seed))).all()


@given(lengths)
def test_mean_and_max_are_those_of_the_samples(samples: list[int]) -> None:
    assert of(samples).mean == pytest.approx(np.mean(samples))
    assert of(samples).max == max(samples)


@given(lengths)
def test_a_pmf_of_counts_is_the_distribution_of_the_samples(samples: list[int]) -> None:
    tokens, counts = np.unique(samples, return_counts=True)
    order = np.random.default_rng(len(samples)).permutation(len(tokens))
    distribution = from_pmf("x", tokens[order], counts[order], source="test", samples=len(samples))
    assert distribution.tokens.tolist() == of(samples).tokens.tolist()
    np.testing.assert_allclose(distribution.cumulative, of(samples).cumulative)


def test_a_quantile_table_keeps_the_distribution_and_its_tail() -> None:
    samples = np.ceil(np.random.default_rng(0).lognormal(5, 1.3, 10_000)).astype(np.int64)
    whole = from_samples("x", samples, source="test")
    table = from_quantiles("x", whole.representative(), source="test", samples=10_000)
    assert table.max == whole.max
    assert table.mean == pytest.approx(whole.mean, rel=2e-3)
    assert float(np.abs(table.cdf(whole.tokens) - whole.cumulative).max()) < 1.1e-3
    p = np.array([0.1, 0.5, 0.9, 0.99, 0.999])
    np.testing.assert_allclose(table.quantile(p), whole.quantile(p), rtol=0.02, atol=1)


def test_the_shares_of_a_table_add_up_and_its_levels_rise() -> None:
    assert bin_shares().sum() == pytest.approx(1)
    levels = quantile_levels()
    assert (np.diff(levels) > 0).all()
    assert 0 < levels[0] < levels[-1] < 1


@pytest.mark.parametrize(
    ("tokens", "weights"),
    [([0, 5], [0.5, 0.5]), ([1, 2], [0.5, -0.5]), ([1, 2], [0.0, 0.0]), ([1], [float("nan")])],
)
def test_impossible_tables_are_refused(tokens: list[int], weights: list[float]) -> None:
    with pytest.raises(ValueError, match="x:"):
        from_pmf("x", tokens, weights, source="test", samples=1)


def test_a_length_without_weight_is_no_possible_length() -> None:
    assert from_pmf("x", [1, 2, 9], [1, 1, 0], source="test", samples=2).max == 2


@given(lengths, st.integers(0, 100))
def test_many_at_once_are_the_same_as_one_by_one(samples: list[int], seed: int) -> None:
    distribution = of(samples)
    levels = np.random.default_rng(seed).random(3000)
    levels = np.concatenate((levels, distribution.cumulative, [0.0, 1.0], np.arange(0, 1, 1 / 1024)))
    one_by_one = distribution.tokens[np.searchsorted(distribution.cumulative, levels)]
    assert (distribution.quantile(levels) == one_by_one).all()
    assert distribution.quantile(levels.reshape(1, -1)).shape == (1, len(levels))
    x = np.arange(-5, 6000)
    np.testing.assert_array_equal(distribution.cdf(x), distribution.cdf(x.astype(float)))
