"""One GPU type calibrated by the LLMs that were measured on it, for those that were not.

LLMs on one GPU share physical rates: seconds per launch, achieved bandwidth, achieved arithmetic. The roofline is
linear in these, so that rates which meet the measured LLMs' step times are found by non-negative least squares on
relative errors. What few LLMs leave open stays near the prior, scaled by their median ratio to it: one measured LLM
is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.cluster import GpuType
from samullm_tui.latency.fit import predicted_s, robust_nnls
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import STALL, IterationLatency, typical
from samullm_tui.latency.roofline import EAGER, Rates, rates_of, roofline
from samullm_tui.latency.shape import Shape

__all__ = ["Measured", "calibrated_rates"]

FloatArray = npt.NDArray[np.float64]

Measured = tuple[Shape, int, IterationLatency]
"""An LLM's shape, its tp, and its measured iteration latency."""

PRIOR_WEIGHT = 0.01
"""Of the prior in each rate, against the squared relative errors of one LLM's steps."""

# Steps that engines do: decodes, prompts, both together; (sequences, prompts, prompt tokens, context of a sequence).
DECODES = [(n, 0, 0, context) for n in (1, 4, 16, 64, 128, 256) for context in (16, 128, 512, 2048)]
PROMPTS = [(n, n, tokens, 0) for n in (1, 4, 16) for tokens in (16, 128, 256, 512, 1024, 2048, 4096)]
MIXED = [(33, 1, 512, 500), (66, 2, 1024, 500), (50, 2, 2000, 1000), (129, 1, 1920, 300)]


def calibrated_rates(measured: Sequence[Measured], gpu: GpuType, prior: Rates | None = None) -> Rates:
    """The rates of `gpu` under which the roofline meets the measured LLMs best, near `prior` (`rates_of(gpu)`).

    LLMs of one shape at one tp count as one, with the mean of their times. No measured LLM: the prior.
    """
    prior = prior or rates_of(gpu)
    if not measured:
        return prior
    steps = _steps()
    names = [name for name in Rates.__struct_fields__ if name != "stall_s"]
    scales = np.array([getattr(prior, name) or getattr(EAGER, name) for name in names])
    places: dict[tuple[Shape, int], list[FloatArray]] = {}
    for shape, tp, latency in measured:
        places.setdefault((shape, tp), []).append(predicted_s(typical(latency), steps))
    blocks = []
    for (shape, tp), times in places.items():
        columns = [predicted_s(roofline(shape, gpu, tp, _only(name)), steps) for name in names]
        design = np.stack(columns, axis=1) * scales
        blocks.append((design / np.mean(times, axis=0)[:, None], np.ones(len(steps))))
    weight = np.sqrt(PRIOR_WEIGHT * len(steps))
    expected = np.array([getattr(prior, name) for name in names]) / scales
    expected /= np.median(np.concatenate([design for design, _ in blocks]) @ expected)
    blocks.append((weight * np.eye(len(names)), weight * expected))
    found = robust_nnls(np.concatenate([a for a, _ in blocks]), np.concatenate([b for _, b in blocks]))
    stall_s = float(np.mean([latency.coefficients[STALL] for _shape, _tp, latency in measured]))
    return Rates(**dict(zip(names, (found * scales).tolist(), strict=True)), stall_s=stall_s)


def _only(name: str) -> Rates:
    """1 in that field, 0 in all others."""
    return Rates(**{field: float(field == name) for field in Rates.__struct_fields__})


def _steps() -> Iterations:
    rows = [
        (n, tokens, tokens * tokens / max(prompts, 1) / 2, n - prompts, (n - prompts) * context, 1.0)
        for n, prompts, tokens, context in DECODES + PROMPTS + MIXED
        if (n - prompts) * context <= 65_536
    ]
    return Iterations(*np.array(rows, dtype=np.float64).T)
