"""One GPU type calibrated by what was measured on it, for the LLMs and tp that were not.

LLMs on one GPU share physical rates: seconds per launch, achieved bandwidth, achieved arithmetic. The roofline is
linear in these, so that rates which meet the measured times are found by non-negative least squares on relative
errors. What few measurements leave open stays near the prior, scaled by their median ratio to it: one measured LLM is
enough. A factor over a peak rate that none of them depends on (reading experts, where no mixture was measured) is the
prior's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.cluster import GpuType
from samullm_tui.latency.fit import predicted_s, robust_nnls
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import STALL, IterationLatency, typical
from samullm_tui.latency.roofline import EAGER, Rates, rates_of, roofline
from samullm_tui.latency.shape import Shape

__all__ = ["Measured", "Timed", "calibrated_rates", "rates_from_times"]

FloatArray = npt.NDArray[np.float64]

Measured = tuple[Shape, int, IterationLatency]
"""An LLM's shape, its tp, and its measured iteration latency."""

PRIOR_WEIGHT = 0.01
"""Of the prior in each rate, against the mean squared relative error of one LLM's times."""
FIELDS = tuple(name for name in Rates.__struct_fields__ if name != "stall_s")


@dataclass(frozen=True, slots=True)
class Timed:
    """Measured times of one LLM at one tp, each that of a mixture of steps.

    steps    [n] their latency_s is not looked at
    shares   [m, n] how often each step is in a mixture; the identity when single steps were measured
    seconds  [m]
    """

    shape: Shape
    tp: int
    steps: Iterations
    shares: FloatArray
    seconds: FloatArray


def calibrated_rates(measured: Sequence[Measured], gpu: GpuType, prior: Rates | None = None) -> Rates:
    """The rates of `gpu` under which the roofline meets the measured LLMs best, near `prior` (`rates_of(gpu)`).

    LLMs of one shape at one tp count as one, with the mean of their times. No measured LLM: the prior.
    """
    if not measured:
        return prior or rates_of(gpu)
    steps = _steps()
    places: dict[tuple[Shape, int], list[FloatArray]] = {}
    for shape, tp, latency in measured:
        places.setdefault((shape, tp), []).append(predicted_s(typical(latency), steps))
    single = np.eye(len(steps))
    times = [Timed(shape, tp, steps, single, np.mean(all_s, axis=0)) for (shape, tp), all_s in places.items()]
    stall_s = float(np.mean([latency.coefficients[STALL] for _shape, _tp, latency in measured]))
    return rates_from_times(times, gpu, prior, stall_s=stall_s)


def rates_from_times(
    times: Sequence[Timed], gpu: GpuType, prior: Rates | None = None, *, stall_s: float = 0.0
) -> Rates:
    """The same from measured times, one or more. `stall_s` is taken over: times are those of typical steps."""
    prior = prior or rates_of(gpu)
    scales = np.array([getattr(prior, name) or getattr(EAGER, name) or 1.0 for name in FIELDS])
    blocks = [_design(timed, gpu) * scales / timed.seconds[:, None] for timed in times]
    design = np.concatenate(blocks)
    expected = np.array([getattr(prior, name) for name in FIELDS]) / scales
    # A factor that nothing here depends on is over the GPU's own peak already: a slow host makes no expert slower.
    open_factor = ~design.any(axis=0) & np.array([name.endswith("_factor") for name in FIELDS])
    expected[~open_factor] /= np.median(design @ expected)
    weight = np.sqrt(PRIOR_WEIGHT * len(design) / len(times))
    found = robust_nnls(
        np.concatenate([design, weight * np.eye(len(FIELDS))]),
        np.concatenate([np.ones(len(design)), weight * expected]),
    )
    return Rates(**dict(zip(FIELDS, (found * scales).tolist(), strict=True)), stall_s=stall_s)


def _design(timed: Timed, gpu: GpuType) -> FloatArray:
    """[m, FIELDS] seconds that 1 in a rate, and 0 in all others, gives each time."""
    columns = []
    for name in FIELDS:
        only = Rates(**{field: float(field == name) for field in Rates.__struct_fields__})
        columns.append(timed.shares @ predicted_s(roofline(timed.shape, gpu, timed.tp, only), timed.steps))
    return np.stack(columns, axis=1)


# Steps that engines do: decodes, prompts, both together; (sequences, prompts, prompt tokens, context of a sequence).
DECODES = [(n, 0, 0, context) for n in (1, 4, 16, 64, 128, 256) for context in (16, 128, 512, 2048)]
PROMPTS = [(n, n, tokens, 0) for n in (1, 4, 16) for tokens in (16, 128, 256, 512, 1024, 2048, 4096)]
MIXED = [(33, 1, 512, 500), (66, 2, 1024, 500), (50, 2, 2000, 1000), (129, 1, 1920, 300)]
MOST_CONTEXT = 65_536


def _steps() -> Iterations:
    rows = [
        (n, tokens, tokens * tokens / max(prompts, 1) / 2, n - prompts, (n - prompts) * context, 1.0)
        for n, prompts, tokens, context in DECODES + PROMPTS + MIXED
        if (n - prompts) * context <= MOST_CONTEXT
    ]
    return Iterations(*np.array(rows, dtype=np.float64).T)
