"""vLLM's sleep mode: memory is given back, waking is quick, and the outputs are what they were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.gpu.verbs import last_object
from samullm_tui.engines.tiny import resolve_checkpoint
from tests.gpu.conftest import NO_GPU_ENGINE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(NO_GPU_ENGINE), reason=NO_GPU_ENGINE or "-"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("level", [1, 2])
def test_a_sleeping_engine_frees_memory_and_wakes_up_unchanged(level: int) -> None:
    folder = resolve_checkpoint("tiny:llama")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.sleeping", folder, str(level)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = last_object(done.stdout)
    assert found["same_outputs"]
    assert found["used_asleep"] < 0.5 * found["used_awake"], "the KV cache is most of what an engine takes"
    print(f"level {level}: {found['sleep_s']:.2f} s to sleep, {found['wake_s']:.2f} s to wake")
