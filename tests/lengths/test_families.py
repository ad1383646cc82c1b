"""Promises of the fitted families."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from samullm_tui.lengths.distribution import LengthDistribution, from_samples
from samullm_tui.lengths.families import FAMILIES, FamilyFit, fit_families

TRUE = {
    "log-normal": (stats.lognorm(0.9, scale=np.exp(5.5)), {"mu": 5.5, "sigma": 0.9}),
    "gamma": (stats.gamma(2.5, scale=120), {"shape": 2.5, "scale": 120}),
    "Weibull": (stats.weibull_min(1.7, scale=400), {"shape": 1.7, "scale": 400}),
}


def sampled(name: str, *, cut: int | None = None) -> LengthDistribution:
    samples = np.ceil(TRUE[name][0].rvs(10_000, random_state=np.random.default_rng(1))).astype(np.int64)
    share = 0.0 if cut is None else float((samples >= cut).mean())
    samples = samples if cut is None else np.minimum(samples, cut)
    return from_samples("x", samples, source="test", censored_share=share)


def fit_of(name: str, distribution: LengthDistribution) -> FamilyFit:
    return next(fit for fit in fit_families(distribution) if fit.name == name)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_finds_the_parameters_of_its_own_samples_and_comes_first(name: str) -> None:
    fits = fit_families(sampled(name))
    assert {fit.name for fit in fits} == set(FAMILIES)
    assert [fit.aic for fit in fits] == sorted(fit.aic for fit in fits)
    assert fits[0].name == name
    assert fits[0].parameters == pytest.approx(TRUE[name][1], rel=0.06)
    assert fits[0].ks < 0.02


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_that_were_cut_off_do_not_shorten_the_fit(name: str) -> None:
    cut = int(np.ceil(TRUE[name][0].ppf(0.7)))
    fit = fit_of(name, sampled(name, cut=cut))
    assert fit.parameters == pytest.approx(TRUE[name][1], rel=0.1)
    assert fit.quantile(0.9) == pytest.approx(TRUE[name][0].ppf(0.9), rel=0.1)
    assert fit.ks < 0.03


@pytest.mark.parametrize("name", FAMILIES)
def test_quantile_is_the_inverse_of_the_cdf(name: str) -> None:
    fit = fit_of(name, sampled(name))
    p = np.linspace(0.01, 0.99, 33)
    np.testing.assert_allclose(fit.cdf(fit.quantile(p)), p)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_goodness_of_fit_is_that_of_all_samples(name: str) -> None:
    distribution = sampled(name)
    fit = fit_of(name, distribution)
    samples = np.repeat(
        distribution.tokens, np.round(np.diff(distribution.cumulative, prepend=0) * 10_000).astype(int)
    )
    log_likelihood = TRUE[name][0].logpdf(samples).sum()
    assert fit.aic == pytest.approx(4 - 2 * log_likelihood, rel=0.01)
    exact = stats.kstest(samples, fit.cdf).statistic
    assert fit.ks == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    ("samples", "censored"), [([7] * 30, 0.0), ([2048] * 30, 1.0), ([3] * 3 + [9] * 27, 0.9)]
)
def test_nothing_is_fitted_where_there_is_nothing_to_fit(samples: list[int], censored: float) -> None:
    assert fit_families(from_samples("x", samples, source="test", censored_share=censored)) == ()


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 4000), min_size=2, max_size=30).filter(lambda s: len(set(s)) > 1), st.booleans()
)
def test_any_table_gives_finite_figures(samples: list[int], censored: bool) -> None:
    share = float(np.mean(np.array(samples) == max(samples))) if censored else 0.0
    for fit in fit_families(from_samples("x", samples, source="test", censored_share=share)):
        assert all(np.isfinite(value) for value in fit.parameters.values())
        assert np.isfinite(fit.aic)
        assert 0 <= fit.ks <= 1
