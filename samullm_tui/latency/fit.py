"""Fitting the iteration model to measured steps.

Non-negative least squares on the relative error, made robust by Huber weights: a step that was hit by a stall
(garbage collection, a first call) weighs by its error's magnitude, not by its square. Then all coefficients are
scaled together so that the fitted rows' total is met: a run's makespan is a sum of steps, stalls included. A share
of the rows is kept out of the fit and only those say how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import Problem, ProfileError
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import TOKEN_BREAKS, IterationLatency

__all__ = ["Fit", "Iterations", "fit", "predicted_s"]

FloatArray = npt.NDArray[np.float64]

HELD_OUT_SHARE = 0.2
HUBER_ERROR = 0.05
"""Relative error from which a row counts linearly: above the repeatability of a step, under the size of a stall."""
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model and its errors on the `held_out_rows` rows that were kept out of the fit (of `rows`).

    median_ape, mape   median and mean of |predicted - measured| / measured
    bias               predicted total over measured total, minus 1
    """

    latency: IterationLatency
    median_ape: float
    mape: float
    bias: float
    rows: int
    held_out_rows: int


def fit(rows: Iterations, *, experts: int = 0, experts_per_token: int = 0, rng: np.random.Generator) -> Fit:
    """Coefficients from a random 80 % of `rows`, errors from the others.

    `experts` and `experts_per_token` are those of a mixture of experts; 0 for a dense LLM.
    Needs at least two rows with latency_s > 0; `parse_iterations` sees to more. Raises ProfileError when
    `experts_per_token` is not from 1 to `experts` (both 0 for a dense LLM).
    """
    if not (experts == experts_per_token == 0 or 1 <= experts_per_token <= experts):
        wrong = f"{experts_per_token} of {experts} experts per token"
        raise ProfileError(Problem("", "experts", wrong, "1 or more of that many experts, or neither"))
    order = rng.permutation(len(rows))
    held = max(1, round(len(rows) * HELD_OUT_SHARE))
    design = _design(rows, experts, experts_per_token)
    train, test = order[held:], order[:held]
    solution = _robust_nnls(design[train], rows.latency_s[train])
    solution *= rows.latency_s[train].sum() / (design[train] @ solution).sum()
    error = design[test] @ solution - rows.latency_s[test]
    measured = rows.latency_s[test]
    ape = np.abs(error) / measured
    latency = IterationLatency(tuple(map(float, solution)), experts, experts_per_token)
    bias = float(error.sum() / measured.sum())
    return Fit(latency, float(np.median(ape)), float(ape.mean()), bias, len(rows), held)


def predicted_s(latency: IterationLatency, rows: Iterations) -> FloatArray:
    """[n] seconds that the model gives for each row."""
    coefficients = np.asarray(latency.coefficients, dtype=np.float64)
    return np.asarray(_design(rows, latency.experts, latency.experts_per_token) @ coefficients)


def _design(rows: Iterations, experts: int, experts_per_token: int) -> FloatArray:
    """[n, coefficients] what each coefficient is multiplied by, in the order of model.COEFFICIENTS."""
    tokens = rows.prefill_tokens + rows.decode_seqs
    missed = (1 - experts_per_token / experts) ** tokens if experts else np.ones_like(tokens)
    return np.stack(
        [
            np.ones_like(tokens),
            rows.num_seqs,
            tokens,
            *(np.maximum(tokens - b, 0.0) for b in TOKEN_BREAKS),
            rows.prefill_context,
            rows.decode_context,
            experts * (1 - missed),
        ],
        axis=1,
    )


def _robust_nnls(design: FloatArray, measured_s: FloatArray) -> FloatArray:
    """Non-negative c that minimises the Huber loss of (design @ c - measured) / measured, by reweighting."""
    from scipy.optimize import nnls

    scale = np.linalg.norm(design, axis=0)
    scale[scale == 0] = 1.0
    relative = design / (scale * measured_s[:, None])
    weight = np.ones(len(measured_s))
    solution = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        solution, _residual = nnls(relative * weight[:, None], weight)
        error = np.abs(relative @ solution - 1)
        weight = np.sqrt(HUBER_ERROR / np.maximum(error, HUBER_ERROR))
    return np.asarray(solution / scale, dtype=np.float64)
