"""Promises of a prior corrected by observations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.blend import blend, posterior, scale_shift
from samullm_tui.lengths.distribution import LengthDistribution, Strata, from_samples
from samullm_tui.lengths.residual import residual_mean, sample_residual
from samullm_tui.lengths.survival import kaplan_meier

priors = st.lists(st.integers(1, 300), min_size=1, max_size=40).map(
    lambda samples: from_samples("x", samples, source="prior")
)
observed = st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=1, max_size=40)


def blended(
    prior: LengthDistribution, answers: Answers, strength: float = 10.0, *, shift: bool = False
) -> LengthDistribution:
    return blend(prior, answers, source="test", strength=strength, shift=shift)


def of(pairs: list[tuple[int, bool]]) -> Answers:
    tokens, ended = zip(*pairs, strict=True)
    return Answers.of(tokens, ended)


@given(priors)
def test_without_observations_it_is_the_prior(prior: LengthDistribution) -> None:
    assert blend(prior, Answers.of([]), source="test") is prior


@given(priors, st.lists(st.integers(1, 400), min_size=1, max_size=40), st.floats(0.5, 50))
def test_of_whole_answers_it_is_the_weighted_average(
    prior: LengthDistribution, tokens: list[int], strength: float
) -> None:
    found = blended(prior, Answers.of(tokens), strength)
    x = np.arange(0, 410)
    weight = min(strength, prior.samples)
    empirical = from_samples("x", tokens, source="test").cdf(x)
    average = (weight * prior.cdf(x) + len(tokens) * empirical) / (weight + len(tokens))
    np.testing.assert_allclose(found.cdf(x), average, atol=1e-9)
    assert found.samples == len(tokens)


@settings(max_examples=40)
@given(priors, observed)
def test_it_lies_between_the_prior_and_what_was_observed_and_closer_to_that_with_more(
    prior: LengthDistribution, pairs: list[tuple[int, bool]]
) -> None:
    answers = of(pairs)
    many = Answers.of(np.repeat(answers.tokens, 50), np.repeat(answers.ended, 50))
    limit = kaplan_meier("x", answers, source="test")
    # Beyond what was observed Kaplan and Meier say nothing: compared where it is measured.
    x = np.arange(0, int(answers.tokens.max()))
    few, more = blended(prior, answers), blended(prior, many)
    far, near = np.abs(few.cdf(x) - limit.cdf(x)), np.abs(more.cdf(x) - limit.cdf(x))
    assert near.max(initial=0) <= far.max(initial=0) + 1e-9


@settings(max_examples=40)
@given(priors, observed)
def test_more_strength_means_closer_to_the_prior(
    prior: LengthDistribution, pairs: list[tuple[int, bool]]
) -> None:
    # Where something was observed: beyond that a tail stands or is continued, see survival.
    x = np.arange(0, max(tokens for tokens, _ in pairs))
    lasting = replace(prior, samples=10**9)
    errors = [
        float(np.abs(blended(lasting, of(pairs), strength).cdf(x) - prior.cdf(x)).max())
        for strength in (0.5, 5.0, 50.0, 1e8)
    ]
    assert (np.diff(errors) <= 1e-9).all()
    assert errors[-1] < 1e-5


@settings(max_examples=40)
@given(priors, observed, st.booleans())
def test_a_running_request_always_has_lengths_ahead(
    prior: LengthDistribution, pairs: list[tuple[int, bool]], shift: bool
) -> None:
    answers = of(pairs)
    found = blended(prior, answers, shift=shift)
    running = answers.tokens[~answers.ended]
    if len(running):
        assert (sample_residual(found, running, np.random.default_rng(0)) > running).all()
        assert np.isfinite(residual_mean(found, running)).all()
    assert found.cumulative[-1] == 1.0
    assert (np.diff(found.cumulative) > 0).all()
    if not shift:
        # Every length that the prior or an answer that ended has is still possible.
        whole = answers.tokens[answers.ended]
        assert set(whole.tolist()) | set(prior.tokens.tolist()) <= set(found.tokens.tolist())


@settings(max_examples=40)
@given(priors, observed)
def test_running_requests_that_outlive_the_prior_lengthen_it(
    prior: LengthDistribution, pairs: list[tuple[int, bool]]
) -> None:
    longer = Answers.of([*(t for t, _ in pairs), 5000], [*(e for _, e in pairs), False])
    found = blended(prior, longer)
    assert found.tail
    assert found.tail.beyond == 5000
    # It keeps at least its own share: nothing that ended takes from it.
    assert 1.0 - float(found.cdf(4999)) >= (1 - 1e-9) / (len(longer) + min(10, prior.samples))


def test_with_many_observations_the_prior_is_forgotten() -> None:
    rng = np.random.default_rng(0)
    prior = from_samples("x", np.ceil(rng.lognormal(4, 1, 5000)), source="prior")
    truth = np.ceil(rng.lognormal(6, 0.5, 20_000)).astype(int)
    found = blend(prior, Answers.of(truth), source="test")
    assert (
        np.abs(found.cdf(np.arange(3000)) - from_samples("y", truth, source="t").cdf(np.arange(3000))).max()
        < 1e-3
    )


def test_cut_answers_count_as_longer_in_the_blend() -> None:
    rng = np.random.default_rng(1)
    whole, limit = np.ceil(rng.lognormal(5, 0.8, 3000)), np.ceil(rng.exponential(400, 3000))
    prior = from_samples("x", np.ceil(rng.lognormal(4, 1, 5000)), source="prior")
    found = blend(prior, Answers.of(np.minimum(whole, limit), whole <= limit), source="test")
    truth = from_samples("y", np.ceil(rng.lognormal(5, 0.8, 50_000)), source="t")
    x = np.arange(1, 350)
    assert np.abs(found.cdf(x) - truth.cdf(x)).max() < 0.05
    assert found.censored_share == pytest.approx((whole > limit).mean())


def test_the_scale_moves_only_when_the_medians_differ_and_more_with_more_answers() -> None:
    rng = np.random.default_rng(2)
    prior = from_samples("x", np.ceil(rng.lognormal(5, 1, 5000)), source="prior")
    assert scale_shift(prior, Answers.of([])) == 1.0
    same = [scale_shift(prior, Answers.of(prior.sample(200, rng))) for _ in range(200)]
    assert same.count(1.0) > 0.9 * 200
    factors = [scale_shift(prior, Answers.of(3 * prior.sample(n, rng))) for n in (12, 100, 2000)]
    assert 1.0 < factors[0] < factors[2]
    assert factors[2] == pytest.approx(3, rel=0.1)


def test_a_run_whose_long_answers_still_run_is_not_taken_for_one_of_short_answers() -> None:
    rng = np.random.default_rng(3)
    prior = from_samples("x", np.ceil(rng.lognormal(5, 1, 5000)), source="prior")
    whole = prior.sample(2000, rng)
    answers = Answers.of(np.minimum(whole, 60), whole <= 60)
    assert scale_shift(prior, answers) == 1.0
    found = blend(prior, answers, source="test")
    assert found.mean == pytest.approx(prior.mean, rel=0.1)


def test_what_the_prior_never_saw_end_is_still_marked() -> None:
    prior = from_samples("x", [10] * 50 + [100] * 50, source="prior", censored_share=0.5)
    found = blended(prior, Answers.of([10, 20, 30]))
    assert found.tail
    assert found.tail.beyond == 100
    assert found.tail.share == pytest.approx(5 / 13)


def test_strata_are_blended_each_with_its_own_prompts() -> None:
    short, long = from_samples("s", [10] * 50, source="t"), from_samples("l", [1000] * 50, source="t")
    pooled = from_samples("p", [10] * 50 + [1000] * 50, source="t")
    prior = LengthDistribution(
        "x", pooled.tokens, pooled.cumulative, "t", 100, strata=Strata(np.array([64]), (short, long))
    )
    answers = Answers.of([11] * 40 + [500] * 7, prompt_tokens=[8] * 40 + [-1] * 7)
    found = blended(prior, answers)
    assert found.strata
    first, second = found.strata.distributions
    assert float(first.cdf(11)) == pytest.approx(1.0)
    assert float(first.cdf(10)) == pytest.approx(10 / 50)
    assert second is long
    assert found.samples == 47


def test_without_families_a_batch_that_still_runs_keeps_the_shape_of_the_prior_beyond() -> None:
    """Half of a batch has ended; what is known of the rest is that it is longer."""
    rng = np.random.default_rng(0)
    lengths = np.rint(rng.gamma(2.0, 100.0, 3000)).astype(np.int64) + 1
    prior = from_samples("x", lengths[:2000], source="prior")
    batch, now = lengths[2000:2100], int(np.quantile(lengths, 0.4))
    answers = Answers.of(np.minimum(batch, now), batch <= now)
    blended = blend(prior, answers, source="run", families=False)
    beyond = prior.tokens > now
    shares = [np.diff(one.cdf(np.append(now, prior.tokens[beyond]))) for one in (prior, blended)]
    assert shares[1] / shares[1].sum() == pytest.approx(shares[0] / shares[0].sum())
    assert blended.max == prior.max


def drawn(prior: LengthDistribution, answers: Answers, count: int = 400) -> list[LengthDistribution]:
    rng = np.random.default_rng(0)
    found = posterior(prior, answers, source="test", shift=False)
    return [found.draw(rng) for _ in range(count)]


@pytest.mark.parametrize("n", [5, 500])
def test_draws_differ_as_much_as_the_answers_leave_open(n: int) -> None:
    """Of whole answers the share up to a length is Beta distributed, with the prior's answers among the observed."""
    prior = from_samples("x", np.arange(1, 201), source="prior")
    answers = Answers.of([*np.linspace(50, 150, n).astype(int), 200])
    expected = float(blended(prior, answers).cdf(100))
    shares = [float(one.cdf(100)) for one in drawn(prior, answers)]
    spread = np.sqrt(expected * (1 - expected) / (len(answers) + 10 + 1))
    assert np.mean(shares) == pytest.approx(expected, abs=4 * spread / np.sqrt(len(shares)))
    assert np.std(shares) == pytest.approx(spread, rel=0.15)


def test_answers_that_still_run_leave_the_rest_as_open_as_it_is() -> None:
    """All that is known of 50 is that they are longer: the shares of shorter ones differ less than without them."""
    prior = from_samples("x", np.arange(1, 201), source="prior")
    ended = Answers.of([20, 40, 60, 80])
    running = Answers.of([20, 40, 60, 80, *[60] * 50], [True] * 4 + [False] * 50)
    few, many = ([float(one.cdf(60)) for one in drawn(prior, some)] for some in (ended, running))
    assert np.mean(many) < 0.2 < np.mean(few)
    assert np.std(many) < 0.6 * np.std(few)
    assert np.mean(many) == pytest.approx(float(blended(prior, running).cdf(60)), abs=0.01)


def test_what_no_answer_reached_is_as_long_as_the_prior_says_in_the_mean_and_longer_or_shorter_in_a_draw() -> (
    None
):
    prior = from_samples("x", np.arange(1, 201), source="prior")
    for answers, seen in (
        (Answers.of([]), 0),
        (Answers.of([30] * 40 + [100] * 40, [True] * 40 + [False] * 40), 100),
    ):
        expected = residual_mean(blended(prior, answers), [seen])[0] - seen
        excess = np.array([residual_mean(one, [seen])[0] - seen for one in drawn(prior, answers)])
        assert excess.mean() == pytest.approx(expected, rel=0.04)
        # As that of ten answers: the excess of the prior is uniform.
        assert excess.std() == pytest.approx(expected / np.sqrt(3 * 10), rel=0.15)


def test_draws_have_strata_of_their_own() -> None:
    short, long = from_samples("s", [10] * 50, source="t"), from_samples("l", [1000] * 50, source="t")
    prior = replace(
        from_samples("p", [10, 1000] * 50, source="t"), strata=Strata(np.array([64]), (short, long))
    )
    answers = Answers.of([11] * 40, prompt_tokens=[8] * 40)
    for one in drawn(prior, answers, 5):
        assert one.strata
        first, second = one.strata.distributions
        assert 0.5 < float(first.cdf(11)) - float(first.cdf(10)) < 1.0
        assert second.mean == pytest.approx(1000)
