"""Maximum likelihood of the three families, for lengths of which some are known only to be greater than a bound.

Each has two parameters, found on an unbounded scale by Nelder and Mead's method: a hundredth of the time that SciPy's
general fit of censored data takes, which matters to whoever fits again while a run goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.request import IntArray

__all__ = ["FAMILIES", "maximum_likelihood"]

FloatArray = npt.NDArray[np.float64]
Loss = Callable[[FloatArray], float]

FAMILIES = ("log-normal", "gamma", "Weibull")
TINY = 1e-300
BOUND = 20.0
"""Of mu and of the logarithm of every other parameter: e^20 tokens are more than any answer has."""


def maximum_likelihood(name: str, ended: FloatArray, cut_off: FloatArray) -> dict[str, float]:
    """The parameters (as in FamilyFit) of `ended` [n] whole lengths and of [m] that are longer than `cut_off`."""
    from scipy import optimize

    bounds, counts = np.unique(cut_off, return_counts=True)
    start = np.array([0.0, np.log(ended.mean())])
    if name == "log-normal":
        logs = np.log(ended)
        start = np.array([logs.mean(), np.log(logs.std() + 0.1)])
    loss = {"log-normal": _log_normal, "gamma": _gamma, "Weibull": _weibull}[name](ended, bounds, counts)
    with np.errstate(over="ignore"):
        found = optimize.minimize(
            loss,
            start,
            method="Nelder-Mead",
            bounds=[(-BOUND, BOUND)] * 2,
            options={"xatol": 1e-6, "fatol": 1e-7},
        ).x
    if name == "log-normal":
        return {"mu": float(found[0]), "sigma": float(np.exp(found[1]))}
    return {"shape": float(np.exp(found[0])), "scale": float(np.exp(found[1]))}


def _log_normal(ended: FloatArray, bounds: FloatArray, counts: IntArray) -> Loss:
    """Of (mu, ln sigma), up to a constant."""
    from scipy.special import log_ndtr

    n, logs, bound_logs = len(ended), np.log(ended), np.log(bounds)
    total, squares = float(logs.sum()), float(logs @ logs)

    def loss(at: FloatArray) -> float:
        mu, sigma = at[0], np.exp(at[1])
        distance = (squares - 2 * mu * total + n * mu * mu) / (2 * sigma * sigma)
        return float(n * at[1] + distance - counts @ log_ndtr((mu - bound_logs) / sigma))

    return loss


def _gamma(ended: FloatArray, bounds: FloatArray, counts: IntArray) -> Loss:
    """Of (ln shape, ln scale), up to a constant."""
    from scipy.special import gammaincc, gammaln

    n, total, logs = len(ended), float(ended.sum()), float(np.log(ended).sum())

    def loss(at: FloatArray) -> float:
        shape, scale = np.exp(at)
        whole = (shape - 1) * logs - total / scale - n * (gammaln(shape) + shape * at[1])
        return float(-whole - counts @ np.log(np.maximum(gammaincc(shape, bounds / scale), TINY)))

    return loss


def _weibull(ended: FloatArray, bounds: FloatArray, counts: IntArray) -> Loss:
    """Of (ln shape, ln scale), up to a constant."""
    n, logs, bound_logs = len(ended), np.log(ended), np.log(bounds)
    total = float(logs.sum())

    def loss(at: FloatArray) -> float:
        shape, scale_log = np.exp(at[0]), at[1]
        powers = np.exp(shape * (logs - scale_log)).sum() + counts @ np.exp(shape * (bound_logs - scale_log))
        return float(powers - n * (at[0] - shape * scale_log) - (shape - 1) * total)

    return loss
