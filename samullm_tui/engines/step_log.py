"""Every step of a vLLM engine as a row of CSV, written from inside the engine.

`--scheduler-cls samullm_tui.engines.step_log.logged_scheduler` makes vLLM's engine core call `logged_scheduler`, which
gives it the scheduler that it would have chosen by itself, with three methods that also keep a log. Nothing of vLLM is
imported here: what is used of it (0.26 to 0.32) are `schedule`, `update_from_output`, `add_request`, `requests` and the
configuration.

A step's latency is the time from the end of the step before to its own end, as long as the engine has something to do;
of the first step after a pause it is the time since it was scheduled. So the steps of a busy time add up to that time,
overheads between them included (the log's own too: some 25 µs for 128 sequences). It holds for asynchronous scheduling
as well, where a step is scheduled before the one ahead of it has ended: there it is the pace of the steady pipeline.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from samullm_tui.domain.errors import EngineError, InputError, Problem
from samullm_tui.latency.measurements import COLUMNS, Iterations, parse_iterations

__all__ = [
    "SCHEDULER",
    "STEPS",
    "Arrival",
    "EngineSetup",
    "StepLog",
    "Work",
    "logged_scheduler",
    "read_arrivals",
    "read_setup",
    "read_steps",
    "work_of",
    "write_steps",
]

STEPS = "SAMULLM_STEPS"
"""The environment variable with the path of the CSV. Beside it, with `.json` added, stands the engine's setup, and with
`.arrivals` when each request arrived, one line each.
"""
SCHEDULER = "samullm_tui.engines.step_log.logged_scheduler"
HEADER = ",".join(COLUMNS) + "\n"

Chunk = tuple[int, int, int]
"""Of one sequence in a step: tokens computed before it, tokens computed by it, tokens of its prompt."""


class EngineSetup(Struct, frozen=True, kw_only=True):
    """What an engine decided about itself. `kv_blocks` counts the reserved one."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int
    kv_blocks: int
    dtype: str
    asynchronous: bool


class Arrival(Struct, frozen=True):
    """A request as it reached the scheduler, at `at_s` of the monotonic clock."""

    at_s: float
    prompt_tokens: int
    max_tokens: int


class Work(Struct, frozen=True):
    """What is in a step, in the order of measurements.COLUMNS without the latency."""

    num_seqs: int
    prefill_tokens: int
    prefill_context: float
    decode_seqs: int
    decode_context: int


def work_of(chunks: Iterable[Chunk]) -> Work:
    """A sequence counts as prefill when it computes more than one token or is not past its prompt, else as decode.

    The context of a token counts the token itself, as in the simulator.
    """
    seqs = prefill_tokens = decodes = decode_context = 0
    prefill_context = 0.0
    for before, tokens, prompt_tokens in chunks:
        seqs += 1
        if tokens > 1 or before < prompt_tokens:
            prefill_tokens += tokens
            prefill_context += tokens * (before + 0.5 * (tokens + 1))
        else:
            decodes += 1
            decode_context += before + 1
    return Work(seqs, prefill_tokens, prefill_context, decodes, decode_context)


class StepLog:
    """Steps begin and end in the same order; one may begin before the one ahead of it has ended."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` takes one line of CSV for each step that computes something."""
        self._write = write
        self._begun: deque[tuple[float, Work]] = deque()
        self._busy_since_s: float | None = None

    def begin(self, now_s: float, chunks: Iterable[Chunk]) -> None:
        self._begun.append((now_s, work_of(chunks)))

    def end(self, now_s: float, *, busy: bool) -> None:
        """`busy`: whether requests are left for the engine to work on."""
        began_s, work = self._begun.popleft()
        since_s = began_s if self._busy_since_s is None else self._busy_since_s
        if work.num_seqs and now_s > since_s:
            counts = f"{work.num_seqs},{work.prefill_tokens},{work.prefill_context}"
            decodes = f"{work.decode_seqs},{work.decode_context}"
            self._write(f"{counts},{decodes},{now_s - since_s:.9f}\n")
        self._busy_since_s = now_s if busy or self._begun else None


def logged_scheduler(vllm_config: Any, **arguments: Any) -> Any:
    """VLLM's own scheduler for `vllm_config`, logging to the file that $SAMULLM_STEPS names."""
    path = Path(os.environ[STEPS])
    vllm_config.scheduler_config.scheduler_cls = None
    scheduler = vllm_config.scheduler_config.get_scheduler_cls()(vllm_config=vllm_config, **arguments)
    _setup_file(path).write_bytes(msgspec.json.encode(_setup_of(vllm_config, scheduler)))
    # Line by line: one write of 40 bytes a step, microseconds, and nothing is lost when the engine is killed.
    file = path.open("a", buffering=1, encoding="ascii")
    _attach(scheduler, StepLog(file.write))
    _attach_arrivals(scheduler, _arrivals_file(path).open("a", buffering=1, encoding="ascii").write)
    return scheduler


def _attach(scheduler: Any, log: StepLog) -> None:
    schedule, update = scheduler.schedule, scheduler.update_from_output

    def logged_schedule(*args: Any, **kwargs: Any) -> Any:
        began_s = time.monotonic()
        output = schedule(*args, **kwargs)
        requests = scheduler.requests
        # Scheduling has already counted this step's tokens as computed.
        chunks = (
            (requests[key].num_computed_tokens - tokens, tokens, requests[key].num_prompt_tokens)
            for key, tokens in output.num_scheduled_tokens.items()
        )
        log.begin(began_s, chunks)
        return output

    def logged_update(*args: Any, **kwargs: Any) -> Any:
        outputs = update(*args, **kwargs)
        log.end(time.monotonic(), busy=scheduler.has_unfinished_requests())
        return outputs

    scheduler.schedule, scheduler.update_from_output = logged_schedule, logged_update


def _attach_arrivals(scheduler: Any, write: Callable[[str], object]) -> None:
    add_request = scheduler.add_request

    def logged_add(*args: Any, **kwargs: Any) -> Any:
        request = args[0] if args else kwargs["request"]
        write(f"{time.monotonic():.6f} {request.num_prompt_tokens} {request.max_tokens}\n")
        return add_request(*args, **kwargs)

    scheduler.add_request = logged_add


def _setup_of(vllm_config: Any, scheduler: Any) -> EngineSetup:
    config = vllm_config.scheduler_config
    return EngineSetup(
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_scheduled_tokens,
        max_model_len=vllm_config.model_config.max_model_len,
        block_size=vllm_config.cache_config.block_size,
        kv_blocks=scheduler.kv_cache_config.num_blocks,
        dtype=str(vllm_config.model_config.dtype).removeprefix("torch."),
        asynchronous=bool(config.async_scheduling),
    )


def _setup_file(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _arrivals_file(path: Path) -> Path:
    return path.with_name(path.name + ".arrivals")


def read_arrivals(path: Path, since_s: float) -> list[Arrival]:
    """Which requests reached the scheduler that logs to `path` from `since_s` on, in the order of its queue."""
    file = _arrivals_file(path)
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    found = [Arrival(float(at_s), int(prompt), int(limit)) for at_s, prompt, limit in lines]
    return [arrival for arrival in found if arrival.at_s >= since_s]


def read_setup(path: Path) -> EngineSetup:
    """The setup of the engine that logs to `path`. Raises EngineError when it has written none."""
    try:
        return msgspec.json.decode(_setup_file(path).read_bytes(), type=EngineSetup)
    except (OSError, msgspec.DecodeError) as error:
        wrong = f"the engine has not said how it is set up ({type(error).__name__})"
        raise EngineError(Problem("", "", wrong, "vLLM 0.32, or one with its V1 scheduler")) from error


def read_steps(logs: Sequence[tuple[Path, int]]) -> Iterations:
    """The steps of all `logs`, each a file and the byte to begin at. Raises ProfileError when they are too few."""
    rows = b"".join(path.read_bytes()[since:] for path, since in logs if path.exists())
    return parse_iterations(HEADER.encode() + rows, "the steps that the engine logged")


def write_steps(rows: Iterations, path: Path) -> None:
    """As CSV that `fit-latency` reads. Raises InputError."""
    columns = np.stack([getattr(rows, name) for name in COLUMNS], axis=1)
    try:
        with path.open("w", encoding="ascii") as file:
            file.write(HEADER)
            np.savetxt(file, columns, fmt="%.9g", delimiter=",")
    except OSError as error:
        raise InputError(Problem(str(path), "", f"cannot be written: {error.strerror}")) from error
