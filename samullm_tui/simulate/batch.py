"""One engine serving one list of requests, all known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.domain.request import IntArray
from samullm_tui.latency.model import IterationLatency
from samullm_tui.simulate.config import EngineConfig
from samullm_tui.simulate.kernel import advance, next_action_s
from samullm_tui.simulate.options import set_options, share
from samullm_tui.simulate.requests import arrive_all
from samullm_tui.simulate.state import (
    END,
    FINISH,
    FIRST,
    ITERATIONS,
    LEFT,
    LIMIT,
    LOG_COLUMNS,
    LOGGED,
    LOGGING,
    ORIGIN,
    PREEMPTIONS,
    PROMPT,
    READY,
    SCHEDULED,
    TOKENS,
    State,
    make_state,
)

__all__ = ["LOG_DTYPE", "EngineTrace", "check_requests", "simulate_requests"]

FloatArray = npt.NDArray[np.float64]
LOG_ROWS = 1 << 14

LOG_DTYPE = np.dtype(
    [("iteration", np.int64)]
    + [(name, np.float64 if name.endswith("_s") else np.int64) for name in LOG_COLUMNS]
)
"""Columns of the iteration log, as the contract names them."""


@dataclass(frozen=True, slots=True)
class EngineTrace:
    """What one engine did. Times are indexed by request; `log` has one row for each step (LOG_DTYPE), or is None."""

    makespan_s: float
    iterations: int
    preemptions: int
    scheduled_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray
    log: npt.NDArray[np.void] | None


def check_requests(config: EngineConfig, prompt_tokens: IntArray, output_tokens: IntArray) -> None:
    """Raises InputError naming requests (counted from 0) that the engine could never finish."""
    limit = np.minimum(prompt_tokens + output_tokens, config.max_model_len)
    tests = (
        (prompt_tokens < 1, "has an empty prompt", "at least 1 token"),
        (output_tokens < 1, "asks for no output", "at least 1 token"),
        (
            prompt_tokens >= config.max_model_len,
            "has a prompt that leaves no room for an output",
            f"less than the context of {config.max_model_len} tokens",
        ),
        (
            limit > config.most_tokens,
            "is larger than the KV cache",
            f"at most {config.most_tokens} tokens in {config.usable_blocks} usable blocks",
        ),
    )
    problems = [
        Problem("", f"request {index}", wrong, right)
        for bad, wrong, right in tests
        for index in np.flatnonzero(bad)[:5]
    ]
    if problems:
        raise InputError(problems)


def simulate_requests(
    config: EngineConfig,
    latency: IterationLatency,
    arrival_s: FloatArray,
    prompt_tokens: IntArray,
    output_tokens: IntArray,
    *,
    max_tokens: IntArray | None = None,
    prefix: IntArray | None = None,
    prefix_tokens: IntArray | None = None,
    priority: IntArray | None = None,
    log_iterations: bool = False,
) -> EngineTrace:
    """Serves all requests. Requests that arrive together are queued in their order.

    max_tokens     [n] a request with fewer output tokens stops by itself (asynchronous engines; default: none does)
    prefix         [n] requests with one number begin with the same tokens, -1 for none (engines that cache prefixes)
    prefix_tokens  [n] how many of its prompt's tokens are of that beginning
    priority       [n] the lowest goes first (engines that go by priority; default: all the same)

    An output is cut where prompt and output fill the context. Raises InputError for a request that can never finish.
    """
    check_requests(config, prompt_tokens, output_tokens)
    n = len(prompt_tokens)
    shared = share(prefix, prefix_tokens, prompt_tokens, config.block_size) if config.prefix_caching else None
    slots = shared.slots if shared else 0
    longest, log_rows = int(output_tokens.max()) if n else 0, LOG_ROWS if log_iterations else 0
    s = make_state(n, [(config, latency)], longest=longest, log_rows=log_rows, slots=slots)
    s.req[:, PROMPT] = s.req[:, TOKENS] = s.req[:, ORIGIN] = prompt_tokens
    s.req[:, LIMIT] = np.minimum(prompt_tokens + output_tokens, config.max_model_len)
    s.times[:, READY] = arrival_s
    s.llm[0, LEFT] = n
    s.misc[LOGGING] = log_iterations
    set_options(s, np.arange(n), output_tokens, max_tokens, shared, priority)
    arrive_all(s, np.arange(n), 0)
    rows = run(s)
    return EngineTrace(
        makespan_s=float(s.llm[0, END]),
        iterations=int(s.eng[0, ITERATIONS]),
        preemptions=int(s.eng[0, PREEMPTIONS]),
        scheduled_s=s.times[:, SCHEDULED],
        first_token_s=s.times[:, FIRST],
        finish_s=s.times[:, FINISH],
        log=as_log(rows) if log_iterations else None,
    )


def memory_bytes(count: int, config: EngineConfig, latency: IterationLatency) -> int:
    """What `simulate_requests` takes for so many requests besides its arguments, shared blocks left out."""
    one, two = (sum(array.nbytes for array in make_state(n, [(config, latency)])) for n in (1, 2))
    checks = 3 * 8
    return one + (two - one + checks) * count


def run(s: State) -> list[FloatArray]:
    """Until nothing is left to do. Returns the rows logged, in pieces."""
    pieces = []
    while next_action_s(s, 0) < np.inf:
        advance(s, 0, np.inf)
        pieces.append(s.log[: s.misc[LOGGED]].copy())
        s.misc[LOGGED] = 0
    return pieces


def as_log(pieces: list[FloatArray]) -> npt.NDArray[np.void]:
    rows = np.concatenate([*pieces, np.zeros((0, len(LOG_COLUMNS)))])
    log = np.zeros(len(rows), LOG_DTYPE)
    log["iteration"] = np.arange(len(rows))
    for column, name in enumerate(LOG_COLUMNS):
        log[name] = rows[:, column]
    return log
