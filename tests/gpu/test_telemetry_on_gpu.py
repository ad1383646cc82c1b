"""What the sampler says of a real GPU, against nvidia-smi, and against a process that comes and goes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.gpu.facts import nvidia_smi
from samullm_tui.domain.event import GpuSample
from samullm_tui.telemetry.gpu import GpuSampler, gpu_name, gpu_processes
from tests.gpu.conftest import NO_GPU

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(NO_GPU), reason=NO_GPU or "-"),
    pytest.mark.timeout(300),
]

MIB = 1024**2
GIB = 1024**3
PERIOD_S = 0.2
FIELDS = ("utilization.gpu", "memory.used", "memory.total", "power.draw", "temperature.gpu", "name")
TOLERANCE = 0.02
LOOKS = 20
BUSY = """
import sys, torch
size = int(sys.argv[1])
held = torch.empty(size, dtype=torch.uint8, device="cuda:0")
left = torch.randn(4096, 4096, dtype=torch.bfloat16, device="cuda:0")
torch.cuda.synchronize()
print("ready", flush=True)
while sys.argv[2] == "busy":
    for _ in range(50):
        left @ left
    torch.cuda.synchronize()
sys.stdin.read()
"""


@contextmanager
def user(held_bytes: int, what: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds memory of GPU 0, and keeps it busy or does not."""
    command = [sys.executable, "-c", BUSY, str(held_bytes), what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def latest(sampler: GpuSampler) -> GpuSample:
    return sampler.latest()[0]


def until(found: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not found() and time.monotonic() < deadline:
        time.sleep(PERIOD_S / 4)
    return found()


def test_each_figure_of_a_busy_gpu_lies_between_what_nvidia_smi_saw_around_it() -> None:
    """A sample is taken within one period of two looks of nvidia-smi; a figure between the two, give or take 2 %."""
    with user(2 * GIB, "busy"), GpuSampler(PERIOD_S) as sampler:
        assert sampler.wait(30)
        wrong: dict[str, list[str]] = {"utilization": [], "memory": [], "power": [], "temperature": []}
        for _ in range(LOOKS):
            before = nvidia_smi(FIELDS)
            time.sleep(2 * PERIOD_S)
            ours, after = latest(sampler), nvidia_smi(FIELDS)
            assert None not in (ours.utilization, ours.memory_used_bytes, ours.power_w, ours.temperature_c)
            figures = {
                "utilization": (100 * (ours.utilization or 0), "utilization.gpu", 100.0),
                "memory": ((ours.memory_used_bytes or 0) / MIB, "memory.used", 0.0),
                "power": (ours.power_w or 0, "power.draw", 0.0),
                "temperature": (ours.temperature_c or 0, "temperature.gpu", 100.0),
            }
            for what, (mine, field, of) in figures.items():
                seen = sorted(float(look[field]) for look in (before, after) if look[field] != "[N/A]")
                slack = TOLERANCE * max(of, *seen) if seen else 0.0
                if seen and not seen[0] - slack <= mine <= seen[-1] + slack:
                    wrong[what].append(f"{mine:.1f} outside {seen}")
        assert (ours.memory_total_bytes or 0) / MIB == pytest.approx(
            float(after["memory.total"]), rel=TOLERANCE
        )
        assert gpu_name(0) == after["name"]
        assert not wrong["memory"]
        assert not wrong["temperature"]
        assert max(len(wrong["utilization"]), len(wrong["power"])) <= LOOKS // 5, wrong


def test_a_process_that_comes_and_goes_is_seen_and_so_is_its_memory() -> None:
    with GpuSampler(PERIOD_S) as sampler:
        assert sampler.wait(30)
        before = latest(sampler).memory_used_bytes or 0
        with user(4 * GIB, "idle") as process:
            assert until(lambda: (latest(sampler).memory_used_bytes or 0) >= before + 4 * GIB, 3.0)
            held = gpu_processes(0)
            if held:  # a container may hide processes, or give them other numbers
                assert any(size >= 4 * GIB for size in held.values())
            process.kill()
            process.wait()
            assert until(lambda: (latest(sampler).memory_used_bytes or 0) < before + 64 * MIB, 30.0)
