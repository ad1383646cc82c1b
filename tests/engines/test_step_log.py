"""What the log of an engine's steps promises: counts as the simulator's, latencies that add up to the busy time."""

from __future__ import annotations

import csv
import io
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.domain.errors import EngineError, InputError, ProfileError
from samullm_tui.engines.step_log import (
    HEADER,
    STEPS,
    StepLog,
    logged_scheduler,
    read_arrivals,
    read_setup,
    read_steps,
    work_of,
    write_steps,
)
from samullm_tui.latency.measurements import MIN_ROWS

chunks = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000), st.integers(1, 4000)), max_size=30)


@given(chunks)
def test_every_token_of_a_step_is_counted_with_its_own_context(step: list[tuple[int, int, int]]) -> None:
    work = work_of(step)
    assert work.num_seqs == len(step)
    assert work.prefill_tokens + work.decode_seqs == sum(tokens for _, tokens, _ in step)
    contexts = sum(before + i for before, tokens, _ in step for i in range(1, tokens + 1))
    assert work.prefill_context + work.decode_context == contexts


def test_a_sequence_past_its_prompt_that_computes_one_token_decodes() -> None:
    assert work_of([(10, 1, 10)]).decode_seqs == 1
    assert work_of([(9, 1, 10)]).prefill_tokens == 1, "the last token of a prompt"
    assert work_of([(0, 12, 10)]).prefill_tokens == 12, "recomputed after a preemption"


@dataclass
class Written:
    lines: list[str] = field(default_factory=list)

    def rows(self) -> list[dict[str, float]]:
        reader = csv.DictReader(io.StringIO(HEADER + "".join(self.lines)))
        return [{name: float(value) for name, value in row.items()} for row in reader]


pauses_and_steps = st.lists(
    st.tuples(st.floats(0.001, 5.0), st.lists(st.floats(0.001, 0.5), min_size=1, max_size=8)),
    min_size=1,
    max_size=5,
)


@given(pauses_and_steps, st.booleans())
def test_the_steps_of_a_busy_time_add_up_to_it(
    periods: list[tuple[float, list[float]]], overlapping: bool
) -> None:
    """Overlapping: each step begins before the one ahead of it has ended, as in asynchronous scheduling."""
    written = Written()
    log = StepLog(written.lines.append)
    now_s = busy_s = 0.0
    for pause_s, steps in periods:
        now_s += pause_s
        log.begin(now_s, [(0, 5, 5)])
        for index, step_s in enumerate(steps):
            last = index == len(steps) - 1
            if overlapping and not last:
                log.begin(now_s + step_s / 2, [(5, 1, 5)])
            now_s += step_s
            busy_s += step_s
            log.end(now_s, busy=not last)
            if not overlapping and not last:
                log.begin(now_s, [(5, 1, 5)])
    rows = written.rows()
    assert len(rows) == sum(len(steps) for _, steps in periods)
    assert sum(row["latency_s"] for row in rows) == pytest.approx(busy_s)


def test_a_step_that_computes_nothing_is_no_row_but_takes_its_time() -> None:
    written = Written()
    log = StepLog(written.lines.append)
    log.begin(0.0, [])
    log.end(1.0, busy=True)
    log.begin(1.0, [(3, 1, 3)])
    log.end(1.5, busy=False)
    assert [row["latency_s"] for row in written.rows()] == [0.5]


class Scheduler:
    """A scheduler with the interface of vLLM's: what it is told to schedule stands in `plan`."""

    def __init__(self, vllm_config: Any, kv_cache_config: Any) -> None:
        self.kv_cache_config = kv_cache_config
        self.max_num_scheduled_tokens = 512
        self.plan: deque[dict[str, int]] = deque()
        self.requests = {"a": SimpleNamespace(num_computed_tokens=0, num_prompt_tokens=8)}

    def add_request(self, request: Any) -> str:
        return f"added {request.num_prompt_tokens}"

    def schedule(self, throttle_prefills: bool = False) -> Any:
        scheduled = self.plan.popleft()
        for key, tokens in scheduled.items():
            self.requests[key].num_computed_tokens += tokens
        return SimpleNamespace(num_scheduled_tokens=scheduled)

    def update_from_output(self, output: Any, result: Any) -> str:
        return "outputs"

    def has_unfinished_requests(self) -> bool:
        return bool(self.plan)


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Scheduler, Path]:
    path = tmp_path / "steps.csv"
    monkeypatch.setenv(STEPS, str(path))
    scheduling = SimpleNamespace(scheduler_cls="this one", max_num_seqs=4, async_scheduling=True)
    scheduling.get_scheduler_cls = lambda: Scheduler if scheduling.scheduler_cls is None else None
    config = SimpleNamespace(
        scheduler_config=scheduling,
        cache_config=SimpleNamespace(block_size=16),
        model_config=SimpleNamespace(max_model_len=64, dtype="torch.bfloat16"),
    )
    return logged_scheduler(config, kv_cache_config=SimpleNamespace(num_blocks=9)), path


def test_the_moment_of_each_arrival_is_logged(logged: tuple[Scheduler, Path]) -> None:
    scheduler, path = logged
    assert read_arrivals(path, 0.0) == []
    before_s = time.monotonic()
    requests = [SimpleNamespace(num_prompt_tokens=tokens, max_tokens=9) for tokens in (5, 3)]
    assert scheduler.add_request(requests[0]) == "added 5"
    assert scheduler.add_request(request=requests[1]) == "added 3"
    one, other = read_arrivals(path, before_s - 1e-6)
    assert [(a.prompt_tokens, a.max_tokens) for a in (one, other)] == [(5, 9), (3, 9)]
    assert before_s - 1e-6 <= one.at_s <= other.at_s <= time.monotonic() + 1e-6
    assert read_arrivals(path, time.monotonic() + 1.0) == []


def test_the_engines_own_scheduler_is_logged_step_by_step(logged: tuple[Scheduler, Path]) -> None:
    scheduler, path = logged
    scheduler.plan.extend([{"a": 6}, {"a": 2}, {"a": 1}])
    while scheduler.plan:
        output = scheduler.schedule(throttle_prefills=False)
        assert scheduler.update_from_output(output, None) == "outputs"
    rows = [line.split(",")[:5] for line in path.read_text().splitlines()]
    assert rows == [["1", "6", "21.0", "0", "0"], ["1", "2", "15.0", "0", "0"], ["1", "0", "0.0", "1", "9"]]


def test_the_engine_says_how_it_is_set_up(logged: tuple[Scheduler, Path]) -> None:
    setup = read_setup(logged[1])
    assert (setup.max_num_seqs, setup.max_num_batched_tokens, setup.max_model_len) == (4, 512, 64)
    assert (setup.block_size, setup.kv_blocks, setup.dtype, setup.asynchronous) == (16, 9, "bfloat16", True)


def test_an_engine_that_said_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not said how it is set up"):
        read_setup(tmp_path / "steps.csv")


def test_what_was_logged_before_counts_not_and_several_logs_are_one(tmp_path: Path) -> None:
    row = "1,0,0.0,1,9,0.25\n"
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a warm-up row\n" + row * MIN_ROWS)
    other.write_text(row * 3)
    rows = read_steps([(one, len("a warm-up row\n")), (other, 0)])
    assert len(rows) == MIN_ROWS + 3
    written = tmp_path / "written.csv"
    write_steps(rows, written)
    again = read_steps([(written, len(HEADER))])
    assert again.latency_s.tolist() == rows.latency_s.tolist()
    assert again.decode_context.tolist() == rows.decode_context.tolist()


def test_too_few_steps_and_an_unwritable_file_are_said(tmp_path: Path) -> None:
    log = tmp_path / "one.csv"
    log.write_text("1,0,0.0,1,9,0.25\n")
    with pytest.raises(ProfileError, match="1 rows"):
        read_steps([(log, 0)])
    log.write_text("1,0,0.0,1,9,0.25\n" * MIN_ROWS)
    with pytest.raises(InputError, match="cannot be written"):
        write_steps(read_steps([(log, 0)]), tmp_path / "no folder" / "x.csv")
