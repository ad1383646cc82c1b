"""Promises of fitting the iteration model, on synthetic steps and on the authors' A100 measurements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.domain.errors import ProfileError
from samullm_tui.latency.fit import fit, predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import COEFFICIENTS, STALL, IterationLatency, typical

Steps = Callable[..., Iterations]

TRUE = {
    "constant_s": 0.012,
    "per_sequence_s": 6e-5,
    "per_token_s": 4e-5,
    "per_token_above_128_s": 3e-5,
    "per_prefill_context_s": 4e-9,
    "per_decode_context_s": 2.5e-7,
    "per_distinct_expert_s": 1.5e-3,
}


def latency_of(experts: int = 0, experts_per_token: int = 0) -> IterationLatency:
    values = tuple(TRUE.get(name, 0.0) for name in COEFFICIENTS)
    return IterationLatency(values, experts, experts_per_token)


@pytest.mark.parametrize("experts", [(0, 0), (8, 2)])
def test_known_coefficients_come_back_from_noisy_steps(
    synthetic_steps: Steps, experts: tuple[int, int]
) -> None:
    true = latency_of(*experts)
    rows = synthetic_steps(true, 4000, noise=0.03, seed=1)
    result = fit(rows, experts=experts[0], experts_per_token=experts[1], rng=np.random.default_rng(2))
    fresh = synthetic_steps(true, 1000, noise=0.0, seed=3)
    error = predicted_s(result.latency, fresh) / fresh.latency_s - 1
    assert np.abs(error).max() < 0.03
    got = dict(zip(COEFFICIENTS, result.latency.coefficients, strict=True))
    for name in ("constant_s", "per_sequence_s", "per_prefill_context_s", "per_decode_context_s"):
        assert got[name] == pytest.approx(TRUE[name], rel=0.1), name
    assert (result.latency.experts, result.latency.experts_per_token) == experts


def test_exact_steps_are_fitted_exactly(synthetic_steps: Steps) -> None:
    true = latency_of(8, 2)
    rows = synthetic_steps(true, 2000, noise=0.0, seed=1)
    result = fit(rows, experts=8, experts_per_token=2, rng=np.random.default_rng(0))
    assert result.latency.coefficients == pytest.approx(true.coefficients, rel=1e-6, abs=1e-12)
    assert max(result.median_ape, result.mape, abs(result.bias)) < 1e-9


def test_stalls_do_not_bend_the_fit_but_count_in_the_total(synthetic_steps: Steps) -> None:
    rows = synthetic_steps(latency_of(), 4000, noise=0.02, seed=1)
    stalled = np.random.default_rng(5).random(len(rows)) < 0.03
    latency_s = rows.latency_s + 0.2 * stalled
    slow = Iterations(*(getattr(rows, n) for n in rows.__slots__[:-1]), latency_s)
    result = fit(slow, rng=np.random.default_rng(0))
    ratio = predicted_s(typical(result.latency), rows) / rows.latency_s
    assert ratio.std() / ratio.mean() < 0.04
    assert predicted_s(result.latency, slow).sum() == pytest.approx(latency_s.sum(), rel=0.03)


def test_the_errors_are_those_of_rows_that_the_fit_never_saw(synthetic_steps: Steps) -> None:
    rows = synthetic_steps(latency_of(), 500, noise=0.3, seed=1)
    result = fit(rows, rng=np.random.default_rng(7))
    held = np.random.default_rng(7).permutation(len(rows))[: result.held_out_rows]
    error = predicted_s(result.latency, rows[held]) - rows.latency_s[held]
    ape = np.abs(error) / rows.latency_s[held]
    typical_ape = np.abs(predicted_s(typical(result.latency), rows[held]) / rows.latency_s[held] - 1)
    assert (result.rows, result.held_out_rows) == (500, 100)
    assert result.median_ape == pytest.approx(np.median(typical_ape))
    assert result.expected_median_ape == pytest.approx(np.median(ape))
    assert result.mape == pytest.approx(ape.mean())
    assert result.bias == pytest.approx(error.sum() / rows.latency_s[held].sum())
    changed = rows.latency_s.copy()
    changed[held] *= 10
    other = fit(
        Iterations(*(getattr(rows, n) for n in rows.__slots__[:-1]), changed), rng=np.random.default_rng(7)
    )
    assert other.latency == result.latency


def test_the_same_seed_gives_the_same_fit(synthetic_steps: Steps) -> None:
    rows = synthetic_steps(latency_of(), 300, noise=0.1, seed=1)
    assert fit(rows, rng=np.random.default_rng(4)) == fit(rows, rng=np.random.default_rng(4))


def test_no_coefficient_is_negative_and_what_never_occurs_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    seqs = rng.integers(1, 256, 400).astype(np.float64)
    zero = np.zeros_like(seqs)
    noise = rng.lognormal(0, 0.5, 400)
    rows = Iterations(seqs, zero, zero, seqs, seqs * 100, 0.01 * noise)
    values = fit(rows, rng=rng).latency.coefficients
    assert min(values) >= 0
    assert values[COEFFICIENTS.index("per_prefill_context_s")] == 0


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_any_steps_that_can_be_read_give_a_latency(seed: int, same: bool, mixture: bool) -> None:
    """Of all sizes up to the absurd, in any mix, all alike, 20 or more of them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 60))
    decode = np.floor(10 ** rng.uniform(0, 6, n)) * rng.integers(0, 2, n)
    prompts = np.where(decode == 0, 1, rng.integers(0, 3, n)).astype(np.float64)
    prefill = np.where(prompts > 0, np.floor(10 ** rng.uniform(0, 7, n)), 0)
    decode_context = np.minimum(decode * 10 ** rng.uniform(0, 5, n), 1e9)
    columns = (decode + prompts, prefill, prefill * 10 ** rng.uniform(0, 7, n), decode, decode_context)
    rows = Iterations(*(np.full(n, c[0]) if same else c for c in columns), 10 ** rng.uniform(-7, 3.5, n))
    experts = {"experts": 8, "experts_per_token": 2} if mixture else {}
    result = fit(rows, **experts, rng=rng)
    values = np.array(result.latency.coefficients)
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert values.sum() > 0
    assert np.isfinite([result.median_ape, result.mape, result.bias]).all()


@pytest.mark.parametrize("experts", [(4, 0), (2, 4), (-1, 0), (0, 2)])
def test_impossible_experts_are_refused(synthetic_steps: Steps, experts: tuple[int, int]) -> None:
    rows = synthetic_steps(latency_of(), 50, noise=0.0, seed=1)
    with pytest.raises(ProfileError, match="experts"):
        fit(rows, experts=experts[0], experts_per_token=experts[1], rng=np.random.default_rng(0))


def test_stalls_that_come_with_sequences_are_found_and_kept_apart(synthetic_steps: Steps) -> None:
    """A step of n sequences is stalled by 80 ms with probability (n / 800)²."""
    rows = synthetic_steps(latency_of(), 20_000, noise=0.01, seed=1)
    stalled = np.random.default_rng(5).random(len(rows)) < (rows.num_seqs / 800) ** 2
    slow = Iterations(*(getattr(rows, n) for n in rows.__slots__[:-1]), rows.latency_s + 0.08 * stalled)
    result = fit(slow, rng=np.random.default_rng(0))
    assert result.latency.coefficients[STALL] == pytest.approx(0.08 / 800**2, rel=0.15)
    assert result.median_ape < 0.012 < result.expected_median_ape
    assert abs(result.bias) < 0.01
    ratio = predicted_s(typical(result.latency), rows) / rows.latency_s
    assert np.median(ratio) == pytest.approx(1, abs=0.01)


@pytest.mark.data
def test_the_authors_steps_are_met(authors_steps: dict[tuple[str, int], Iterations]) -> None:
    """Dense LLMs: median error of a typical step 3 % (most pairs; 4.5 % the worst); totals with stalls.

    All tokens are the same one: the mixture is fitted as a dense LLM.
    """
    fits = {key: fit(rows, rng=np.random.default_rng(0)) for key, rows in authors_steps.items()}
    dense = [result for (model, _tp), result in fits.items() if not model.startswith("Mixtral")]
    assert fits["Mixtral-8x7B-v0.1", 2].median_ape <= 0.02
    assert sum(result.median_ape <= 0.03 for result in dense) >= 0.85 * len(dense)
    assert max(result.median_ape for result in dense) <= 0.045
    assert max(abs(result.bias) for result in fits.values()) <= 0.03
    assert abs(np.mean([result.bias for result in dense])) <= 0.01


@pytest.mark.data
def test_the_folder_of_measurements_has_all_the_dense_llms(
    authors_steps: dict[tuple[str, int], Iterations], measured: Path
) -> None:
    assert measured.is_dir()
    assert sum(map(len, authors_steps.values())) == 163_872
