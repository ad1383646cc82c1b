"""Fitting the iteration model to measured steps.

Non-negative least squares on the relative error, made robust by Huber weights, gives the typical step: one that was
hit by a stall (garbage collection, a first call) weighs by its error's magnitude, not by its square. What stalls add
is estimated apart, as their expected time per squared sequence. Then all coefficients are scaled together so that the
fitted rows' total is met: a run's makespan is a sum of steps, stalls included. A share of the rows is kept out of the
fit and only those say how good it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import Problem, ProfileError
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import STALL, TOKEN_BREAKS, IterationLatency, tiles, typical

__all__ = ["Fit", "Iterations", "fit", "fitted", "predicted_s", "robust_nnls"]

FloatArray = npt.NDArray[np.float64]

HELD_OUT_SHARE = 0.2
HUBER_ERROR = 0.02
"""Relative error from which a row counts linearly: above the repeatability of a step, under the size of a stall."""
STALL_EXCESS = 0.25
STALL_DEVIATIONS = 5.0
"""A step was stalled when it took this share, and this many median deviations, more than the typical step."""
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model and its errors on the `held_out_rows` rows that were kept out of the fit (of `rows`).

    median_ape            median of |predicted - measured| / measured, predicted: the typical step
    expected_median_ape   the same with the expected time of stalls in every predicted step
    mape                  its mean
    bias                  predicted total, stalls included, over measured total, minus 1
    """

    latency: IterationLatency
    median_ape: float
    expected_median_ape: float
    mape: float
    bias: float
    rows: int
    held_out_rows: int


def fit(
    rows: Iterations,
    *,
    experts: int = 0,
    experts_per_token: int = 0,
    rng: np.random.Generator,
    stalls: bool = True,
) -> Fit:
    """Coefficients from a random 80 % of `rows`, errors from the others.

    `experts` and `experts_per_token` are those of a mixture of experts; 0 for a dense LLM. Without `stalls` slow
    rows are what they are, and neither is their total met: for steps composed of kernels.
    Needs at least two rows with latency_s > 0; `parse_iterations` sees to more. Raises ProfileError when
    `experts_per_token` is not from 1 to `experts` (both 0 for a dense LLM).
    """
    if not (experts == experts_per_token == 0 or 1 <= experts_per_token <= experts):
        wrong = f"{experts_per_token} of {experts} experts per token"
        raise ProfileError(Problem("", "experts", wrong, "1 or more of that many experts, or neither"))
    order = rng.permutation(len(rows))
    held = max(1, round(len(rows) * HELD_OUT_SHARE))
    train, test = rows[order[held:]], rows[order[:held]]
    latency = fitted(train, experts, experts_per_token, stalls=stalls)
    error = predicted_s(latency, test) / test.latency_s - 1
    typical_error = predicted_s(typical(latency), test) / test.latency_s - 1
    return Fit(
        latency,
        median_ape=float(np.median(np.abs(typical_error))),
        expected_median_ape=float(np.median(np.abs(error))),
        mape=float(np.abs(error).mean()),
        bias=float(predicted_s(latency, test).sum() / test.latency_s.sum() - 1),
        rows=len(rows),
        held_out_rows=held,
    )


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
            tiles(tokens),
            rows.prefill_tokens > 0,
            np.where(rows.prefill_tokens > 0, rows.num_seqs - rows.decode_seqs, 0.0),
            np.where(rows.prefill_tokens > 0, rows.decode_context, 0.0),
            rows.num_seqs**2,
        ],
        axis=1,
    )


def fitted(
    rows: Iterations, experts: int = 0, experts_per_token: int = 0, *, stalls: bool = True
) -> IterationLatency:
    """Coefficients from all of `rows`; the arguments are those of `fit`, which also says how good they are."""
    design = _design(rows, experts, experts_per_token)
    squared_seqs = design[:, STALL].copy()
    design[:, STALL] = 0.0
    solution = robust_nnls(design / rows.latency_s[:, None], np.ones(len(rows)))
    if stalls:
        step_s = design @ solution
        solution[STALL] = _stall_s(rows.latency_s, step_s) / squared_seqs.sum()
        solution *= rows.latency_s.sum() / (step_s + solution[STALL] * squared_seqs).sum()
    return IterationLatency(tuple(map(float, solution)), experts, experts_per_token)


def _stall_s(measured_s: FloatArray, step_s: FloatArray) -> float:
    """Seconds in all stalls: what each stalled step took more than its typical time."""
    excess_s = measured_s - step_s
    deviation = float(np.median(np.abs(excess_s) / measured_s))
    stalled = excess_s > step_s * max(STALL_EXCESS, STALL_DEVIATIONS * deviation)
    return float(excess_s[stalled].sum())


def robust_nnls(design: FloatArray, target: FloatArray) -> FloatArray:
    """Non-negative c that minimises the Huber loss of design @ c - target, by reweighting.

    Raises ProfileError when the numbers are so far apart that least squares do not converge.
    """
    from scipy.optimize import nnls

    scale = np.linalg.norm(design, axis=0)
    scale[scale == 0] = 1.0
    scaled = design / scale
    weight = np.ones(len(target))
    solution = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        try:
            solution, _residual = nnls(scaled * weight[:, None], target * weight, maxiter=50 * len(scale))
        except RuntimeError as stopped:
            right = "steps that one engine did"
            raise ProfileError(Problem("", "", f"nothing fits these rows: {stopped}", right)) from None
        error = np.abs(scaled @ solution - target)
        weight = np.sqrt(HUBER_ERROR / np.maximum(error, HUBER_ERROR))
    return np.asarray(solution / scale, dtype=np.float64)
