"""The one mixture that was measured, Mixtral on A100: left out of the fit, and on tokens that differ.

Its measured steps repeat one token (`latency/experts.py`). The estimate compared with them is that of
`latency_sets.left_out`: Mixtral's shape under rates that the dense LLMs share. Errors are shares of the measured time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import structs

from benchmarks.latency_sets import A100, MIXTRAL, PRIOR, Fits, Steps, latencies, shape_named
from benchmarks.make_catalog import read_rows
from samullm_tui.catalog.profiles import profile_of
from samullm_tui.latency.experts import of_one_token
from samullm_tui.latency.fit import predicted_s
from samullm_tui.latency.measurements import Iterations
from samullm_tui.latency.model import DISTINCT_EXPERT, IterationLatency, typical
from samullm_tui.latency.roofline import GRAPHS, Rates, roofline
from samullm_tui.latency.sharing import calibrated_rates
from samullm_tui.simulate.engine import EngineConfig, simulate_requests

__all__ = ["beside_the_rows", "by_assumption", "by_kind", "of_tokens_that_differ"]

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TP = 2
LONGEST = 32_768
FEW, MANY = 32, 256
"""Sequences: under FEW the launches are most of a step; from MANY the table of blocks is large."""

# Average seconds of a batch of prompts of 1,000 random tokens with 50 out, Mixtral-8x7B-Instruct on 2 A100: (sequences, with
# the expert kernel's default settings, with settings tuned for this shape). vllm-project/vllm pull request 3240, March 2024;
# its benchmark_latency.py fills prompts at random since pull request 2765.
RANDOM_TOKENS = (
    (1, 0.8454, 0.7621),
    (2, 1.1280, 1.0329),
    (4, 1.6141, 1.4490),
    (8, 2.3480, 2.0341),
    (16, 3.5490, 2.8934),
    (32, 5.6271, 4.5309),
    (64, 9.6912, 7.5374),
)
PROMPT, OUTPUT = 1000, 50


def by_kind(steps: Steps, fits: Fits) -> Iterator[tuple[str, ...]]:
    """(kind of row, rows, median error, median bias, that of rows with less than FEW sequences)."""
    rows = steps[MIXTRAL, TP]
    error = _errors(of_one_token(_estimate(_rates_of_dense(fits))), rows)
    for kind, mask in _kinds(rows).items():
        few = error[mask & (rows.num_seqs < FEW)]
        yield kind, f"{mask.sum():,}", *_error_and_bias(error[mask]), f"{np.median(few):+.1%}"


def by_assumption(steps: Steps, fits: Fits) -> Iterator[tuple[str, ...]]:
    """(what is assumed otherwise, median error, median bias). GRAPHS is PRIOR with a shared cache read once."""
    rows = steps[MIXTRAL, TP]
    rates, read_once = _rates_of_dense(fits), _rates_of_dense(fits, GRAPHS)
    estimates = {
        "none (as shipped)": of_one_token(_estimate(rates)),
        "its rows taken for text": _estimate(rates),
        "experts computed as fast as dense layers": of_one_token(_estimate(_as_dense(rates))),
        "a shared KV cache read once, as on H100": of_one_token(_estimate(read_once)),
        "the last two": of_one_token(_estimate(_as_dense(read_once))),
    }
    for assumption, estimate in estimates.items():
        yield assumption, *_error_and_bias(_errors(estimate, rows))


def of_tokens_that_differ() -> Iterator[tuple[str, ...]]:
    """(sequences, forecast, measured, error, measured with a tuned kernel, error), by the shipped profile."""
    profile = profile_of("mistralai/Mixtral-8x7B-Instruct-v0.1", A100, TP)
    assert profile
    assert profile.kv_blocks
    # The engine of then computed prompts of up to a model's context together.
    config = EngineConfig(256, LONGEST, profile.kv_blocks, profile.block_size, LONGEST)
    for seqs, default_s, tuned_s in RANDOM_TOKENS:
        lengths = (np.full(seqs, tokens) for tokens in (PROMPT, OUTPUT))
        forecast_s = simulate_requests(config, profile.iteration, np.zeros(seqs), *lengths).makespan_s
        against = ((f"{s:.2f}", f"{forecast_s / s - 1:+.0%}") for s in (default_s, tuned_s))
        yield f"{seqs}", f"{forecast_s:.2f}", *(cell for cells in against for cell in cells)


def beside_the_rows(measured: Path) -> Iterator[str]:
    """Sentences on what the authors' log says of parts of Mixtral's decodes, in medians."""
    log = read_rows(measured / "samullm-authors" / "iterations_a100.csv.gz")
    decodes = [row for row in log if row["model"] == MIXTRAL and row["phase"] == "decode"]
    short = [row for row in decodes if int(row["max_seq_len"]) <= 2]
    one_long = [row for row in decodes if int(row["max_seq_len"]) >= LONGEST - 1]
    some = [row for row in short if int(row["num_seqs"]) == FEW]
    peak = roofline(shape_named(MIXTRAL), A100, TP, structs.replace(PRIOR, expert_factor=1.0))
    reading_ms = 1000 * peak.experts * peak.coefficients[DISTINCT_EXPERT]
    yield f"computing {FEW} decodes: {_ms(some, 'exec_s')} ms; reading all experts at peak rate: {reading_ms:.1f} ms"
    for context, rows in (("one long context", one_long), ("contexts of 1 or 2 tokens", short)):
        many = [row for row in rows if int(row["num_seqs"]) >= MANY]
        inputs, total = _ms(many, "prepare_s"), _ms(many, "total_s")
        yield f"{MANY} decodes and more, {context}: {inputs} of {total} ms prepare inputs"


def _kinds(rows: Iterations) -> dict[str, Mask]:
    """What the authors' profiler made; each row is of one kind."""
    seqs, prompts, context = rows.num_seqs, rows.prefill_tokens > 0, rows.decode_context
    short, one_long = context <= seqs + 1, context < seqs + LONGEST
    short_prompts = rows.prefill_tokens <= 2 * seqs
    return {
        "decodes, contexts of 1 or 2 tokens": ~prompts & short,
        "decodes, one context of 32,768, the others of one token": ~prompts & one_long & ~short,
        "decodes, contexts that fill the KV cache": ~prompts & ~one_long,
        "prompts of 1 or 2 tokens": prompts & short_prompts,
        "longer prompts, all but one of 32,768 tokens together": prompts & ~short_prompts,
    }


def _rates_of_dense(fits: Fits, prior: Rates = PRIOR) -> Rates:
    """The rates that the other LLMs share, near `prior`."""
    mixture = shape_named(MIXTRAL)
    return calibrated_rates([other for other in latencies(fits) if other[0] != mixture], A100, prior)


def _as_dense(rates: Rates) -> Rates:
    return structs.replace(
        rates, expert_token_factor=rates.token_factor, expert_tile_factor=rates.tile_factor
    )


def _estimate(rates: Rates) -> IterationLatency:
    return typical(roofline(shape_named(MIXTRAL), A100, TP, rates))


def _errors(latency: IterationLatency, rows: Iterations) -> FloatArray:
    return predicted_s(latency, rows) / rows.latency_s - 1


def _error_and_bias(errors: FloatArray) -> tuple[str, str]:
    return f"{np.median(np.abs(errors)):.1%}", f"{np.median(errors):+.1%}"


def _ms(rows: list[dict[str, str]], column: str) -> str:
    return f"{1000 * np.median([float(row[column]) for row in rows]):.1f}"
