"""`apps/selftest.toml` through the supervisor on a GPU, as tests/engine runs it on CPU slots."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.gpu.engines import memory_back_s, used_bytes
from samullm_tui.domain.event import EngineReady, Sampled
from samullm_tui.journal.reader import read_events
from tests.engine.test_selftest_run import APP, as_json, samullm, wait_until_gone
from tests.gpu.conftest import NO_GPU_ENGINE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(NO_GPU_ENGINE), reason=NO_GPU_ENGINE or "-"),
    pytest.mark.timeout(900),
]


def test_the_selftest_application_runs_on_the_gpus_and_leaves_them_free(tmp_path: Path) -> None:
    before = used_bytes() or 0
    outcome = as_json(samullm(tmp_path / "home", "run", APP, "--engine", "vllm", "--yes", "--json"))
    assert (outcome["status"], outcome["errors"]) == ("succeeded", 0)
    assert outcome["outputs"] == outcome["requests"]
    assert not wait_until_gone(outcome["run"], 10)
    assert asyncio.run(memory_back_s(before)) is not None
    events = list(read_events(Path(outcome["directory"])))
    assert {event.replica.llm for event in events if isinstance(event, EngineReady)} == {
        "llama",
        "qwen3",
        "gpt2",
    }
    gpus = [gpu for event in events if isinstance(event, Sampled) for gpu in event.gpus]
    assert max(gpu.memory_used_bytes or 0 for gpu in gpus) > before
    assert not any(gpu.simulated for gpu in gpus)
    error = outcome["predicted_makespan_s"] / outcome["makespan_s"] - 1
    print(
        f"predicted {outcome['predicted_makespan_s']:.1f} s, took {outcome['makespan_s']:.1f} s ({error:+.0%})"
    )
