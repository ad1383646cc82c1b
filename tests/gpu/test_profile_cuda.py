"""`profile` on a CUDA GPU: skipped where there is none, or no GPU build of vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samullm_tui.engines.hardware import measure_hardware
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.latency.profile import decode_profile
from samullm_tui.telemetry.gpu import detect_cluster

CLUSTER = detect_cluster()
VLLM = installed_vllm()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(CLUSTER is None, reason="this machine has no NVIDIA GPU"),
    pytest.mark.timeout(900),
]


@pytest.mark.skipif(VLLM is None or VLLM.build != "gpu", reason="the GPU build of vLLM is not installed")
def test_a_tiny_checkpoint_is_profiled_on_cuda(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    command = [
        *(sys.executable, "-m", "samullm_tui", "profile", "tiny:llama", "--seconds", "10"),
        *("-o", str(output), "--json"),
    ]
    environment = {**os.environ, "SAMULLM_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = decode_profile(output.read_bytes(), str(output))
    assert json.loads(done.stdout)["kv_blocks"] == found.kv_blocks
    assert CLUSTER is not None
    assert found.gpu == CLUSTER.gpu.name
    assert found.block_size == 16
    measured = found.measured
    assert measured is not None
    assert measured.asynchronous, "vLLM schedules asynchronously on GPUs unless told otherwise"
    assert measured.driver
    assert measured.beside == 0
    assert found.load_s is not None
    assert found.load_s > 0
    assert 0 < found.iteration.seconds(1, 0, 0.0, 1, 100.0) < 1


def test_the_rates_of_a_gpu_are_between_nothing_and_twice_the_datasheet(tmp_path: Path) -> None:
    assert CLUSTER is not None
    rates = measure_hardware("cuda:0", 10.0)
    assert 0 < rates.bandwidth_bytes_per_s < 2 * CLUSTER.gpu.bandwidth_bytes_per_s
    assert 0 < rates.flops_per_s["bf16"] < 2 * CLUSTER.gpu.flops_per_s
