"""Steps to fit: synthetic ones, and those of the measured data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samullm_tui.latency.fit import predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import IterationLatency

MAKE_CATALOG = Path(__file__).resolve().parents[2] / "benchmarks" / "make_catalog.py"


@pytest.fixture(scope="session")
def synthetic_steps() -> Callable[..., Iterations]:
    """`n` mixed steps whose time is that of `latency`, with log-normal noise of that spread."""

    def make(latency: IterationLatency, n: int, *, noise: float, seed: int) -> Iterations:
        rng = np.random.default_rng(seed)
        decode = np.floor(rng.uniform(0, 2, n) * rng.uniform(0, 200, n))
        chunks = np.where(decode == 0, 1, rng.integers(0, 4, n)).astype(np.float64)
        prefill = chunks * np.floor(2 ** rng.uniform(2, 10, n))
        prefill_context = prefill * rng.uniform(1, 2000, n)
        decode_context = decode * rng.uniform(1, 1500, n)
        counts = (decode + chunks, prefill, prefill_context, decode, decode_context)
        exact = predicted_s(latency, Iterations(*counts, np.ones(n)))
        return Iterations(*counts, exact * rng.lognormal(0, noise, n))

    return make


@pytest.fixture(scope="session")
def authors_steps(measured: Path) -> dict[tuple[str, int], Iterations]:
    """(model, tp) to the authors' measured A100 steps."""
    spec = importlib.util.spec_from_file_location("make_catalog", MAKE_CATALOG)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    steps: dict[tuple[str, int], Iterations] = module.authors_iterations(measured)
    return steps
