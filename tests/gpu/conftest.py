"""What the tests on a device share. On a CPU, `-m torture` rehearses those that take a `device`, by the same code."""

from __future__ import annotations

import pytest

from samullm_tui.engines.installed import Device, installed_vllm
from samullm_tui.telemetry.gpu import detect_cluster

VLLM = installed_vllm()
NO_GPU = "" if detect_cluster() else "this machine has no NVIDIA GPU"
NO_GPU_ENGINE = NO_GPU or ("" if VLLM and VLLM.build == "gpu" else "the GPU build of vLLM is not installed")
NO_CPU_ENGINE = "" if VLLM and VLLM.build == "cpu" else "the CPU build of vLLM is not installed"


def _marks(device: Device) -> list[pytest.MarkDecorator]:
    if device == "gpu":
        return [pytest.mark.gpu, pytest.mark.skipif(bool(NO_GPU_ENGINE), reason=NO_GPU_ENGINE or "-")]
    return [pytest.mark.torture, pytest.mark.skipif(bool(NO_CPU_ENGINE), reason=NO_CPU_ENGINE or "-")]


@pytest.fixture(params=[pytest.param(device, marks=_marks(device)) for device in ("gpu", "cpu")])
def device(request: pytest.FixtureRequest) -> Device:
    """The GPU; on a machine without one the CPU, as a rehearsal."""
    found: Device = request.param
    return found
