"""Promises of the distribution behind cut answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from samullm_tui.lengths.answers import MOST_TOKENS, Answers
from samullm_tui.lengths.distribution import LengthDistribution, from_samples
from samullm_tui.lengths.survival import continue_tail, kaplan_meier

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=60)
answers = st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=60)


def km(tokens: list[int], ended: list[bool] | bool = True) -> LengthDistribution:
    return kaplan_meier("x", Answers.of(tokens, ended), source="test")


@given(lengths)
def test_without_cut_answers_it_is_the_empirical_distribution(tokens: list[int]) -> None:
    found, empirical = km(tokens), from_samples("x", tokens, source="test")
    assert found.tokens.tolist() == empirical.tokens.tolist()
    np.testing.assert_allclose(found.cumulative, empirical.cumulative, atol=1e-12)
    assert (found.censored_share, found.tail) == (0.0, None)


@given(answers)
def test_it_is_the_product_of_the_shares_that_go_on_at_each_length(pairs: list[tuple[int, bool]]) -> None:
    tokens, ended = map(np.array, zip(*pairs, strict=True))
    found = km(tokens, ended)
    survival = 1.0
    for length in range(1, int(tokens.max()) + 1):
        at_risk = int((tokens >= length).sum())
        survival *= 1 - int(((tokens == length) & ended).sum()) / at_risk
        placed_here = found.tail.share if found.tail and length == found.tail.beyond else 0.0
        assert float(found.cdf(length)) - placed_here == pytest.approx(1 - survival, abs=1e-9)
    assert (found.tail.share if found.tail else 0.0) == pytest.approx(survival, abs=1e-9)


def test_one_that_is_cut_where_another_ends_is_the_longer_one() -> None:
    found = km([10, 10, 30], [True, False, True])
    assert float(found.cdf(10)) == pytest.approx(1 / 3)
    assert float(found.cdf(29)) == pytest.approx(1 / 3)
    assert found.max == 30


@pytest.mark.parametrize("seed", range(3))
def test_answers_cut_at_random_lengths_give_the_truth_and_ignoring_the_cuts_does_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 4000
    truth = stats.lognorm(0.9, scale=200)
    whole, limit = np.ceil(truth.rvs(n, random_state=rng)), np.ceil(rng.exponential(500, n))
    found = km(np.minimum(whole, limit), whole <= limit)
    # Where a share G is not yet cut, the error is like that of G·n whole answers: Dvoretzky-Kiefer-Wolfowitz for the
    # half that is left at 350 tokens, at one in a thousand.
    x = np.arange(1, 350)
    margin = np.sqrt(np.log(2 / 0.001) / (2 * n * np.exp(-350 / 500)))
    error = np.abs(found.cdf(x) - truth.cdf(x)).max()
    assert error < margin
    cut_taken_as_ended = from_samples("x", np.minimum(whole, limit), source="test")
    assert np.abs(cut_taken_as_ended.cdf(x) - truth.cdf(x)).max() > 2 * margin
    only_ended = from_samples("x", whole[whole <= limit], source="test")
    assert np.abs(only_ended.cdf(x) - truth.cdf(x)).max() > 2 * margin


@pytest.mark.parametrize("family", ["log-normal", "gamma", "Weibull"])
def test_what_max_tokens_cut_is_continued_by_the_best_family(family: str) -> None:
    truth = {
        "log-normal": stats.lognorm(0.8, scale=200),
        "gamma": stats.gamma(2, scale=150),
        "Weibull": stats.weibull_min(1.5, scale=300),
    }[family]
    whole = np.ceil(truth.rvs(5000, random_state=np.random.default_rng(0)))
    cut = 300
    placed = km(np.minimum(whole, cut), whole <= cut)
    assert placed.tail
    assert placed.max == placed.tail.beyond == cut
    found = continue_tail(placed)
    assert found.tail
    assert found.tail.share == placed.tail.share == pytest.approx(float((whole > cut).mean()))
    assert found.tail.family == family
    np.testing.assert_allclose(found.cdf(np.arange(cut)), placed.cdf(np.arange(cut)))
    for level in (0.8, 0.9, 0.95):
        assert int(found.quantile(level)) == pytest.approx(truth.ppf(level), rel=0.1)
    assert continue_tail(found) is found


@given(answers)
def test_a_continued_tail_changes_nothing_that_was_measured(pairs: list[tuple[int, bool]]) -> None:
    tokens, ended = map(list, zip(*pairs, strict=True))
    placed = km(tokens, ended)
    found = continue_tail(placed)
    below = np.arange(max(tokens))
    np.testing.assert_allclose(found.cdf(below), placed.cdf(below), atol=1e-9)
    assert found.cumulative[-1] == 1.0
    if found.tail and found.tail.family:
        assert float(found.cdf(max(tokens))) == pytest.approx(1 - found.tail.share)
        assert found.max > max(tokens)


def test_when_no_answer_ended_all_stand_where_they_were_cut() -> None:
    found = continue_tail(km([256] * 20, [False] * 20))
    assert (found.tokens.tolist(), found.censored_share) == ([256], 1.0)
    assert found.tail
    assert (found.tail.share, found.tail.beyond, found.tail.family) == (1.0, 256, "")


def test_one_answer_is_a_distribution_and_none_is_not() -> None:
    assert km([7]).tokens.tolist() == [7]
    assert km([0], [False]).tokens.tolist() == [1]
    with pytest.raises(ValueError, match="x: there are no answers"):
        km([])


@pytest.mark.parametrize(
    ("tokens", "ended"),
    [
        ([float("nan")], True),
        ([float("inf")], True),
        ([-1], False),
        ([0], True),
        ([2.5], True),
        ([MOST_TOKENS + 1], True),
        (["7"], True),
        ([[1, 2]], True),
    ],
)
def test_impossible_answers_are_refused(tokens: list[object], ended: bool) -> None:
    with pytest.raises(ValueError, match="token"):
        Answers.of(np.array(tokens), ended)
