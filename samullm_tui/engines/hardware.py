"""What the memory and the arithmetic of this machine achieve, measured with PyTorch in a process of its own.

`python -m samullm_tui.engines.hardware DEVICE SECONDS [LARGEST_BYTES]` prints one JSON object, a `Rates`. DEVICE is
`cpu` (one thread, which is what an engine's slot has) or `cuda:N`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import EngineError, EngineMissingError, Problem
from samullm_tui.engines.installed import INSTALL_HINT

__all__ = ["MIB", "Rate", "Rates", "devices", "measure_hardware"]

MIB = 1024**2
COPY_BYTES = {"cpu": (1, 16, 256), "cuda": (16, 256, 4096)}
"""MiB: the smallest fits in a cache, the largest in none."""
SHAPES = {
    "cpu": ((64, 1024, 1024), (512, 1024, 1024), (1024, 1024, 1024)),
    "cuda": ((16, 8192, 8192), (512, 8192, 8192), (4096, 4096, 4096), (8192, 8192, 8192)),
}
"""(m, k, n) of the products: a step of few tokens reads weights, one of many computes."""
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
REPEATS = 5
SLACK_S = 60.0


class Rate(Struct, frozen=True, kw_only=True):
    """`what`: copy, read, or the arithmetic's type. `per_s`: bytes or floating-point operations, best of `repeats`."""

    what: str
    size: str
    per_s: float
    median_per_s: float
    repeats: int


class Rates(Struct, frozen=True, kw_only=True):
    """The rates of one device. Best rates are `bandwidth_bytes_per_s` of what no cache holds, `flops_per_s` by type."""

    device: str
    name: str
    threads: int | None
    torch: str
    measured: tuple[Rate, ...]
    bandwidth_bytes_per_s: float
    flops_per_s: dict[str, float]


def devices(gpus: int) -> tuple[str, ...]:
    """What PyTorch calls the devices of a machine with so many GPUs; the CPU where there are none."""
    return tuple(f"cuda:{index}" for index in range(gpus)) or ("cpu",)


def measure_hardware(device: str, seconds: float, largest_bytes: int = 0) -> Rates:
    """Measures for about `seconds`, with blocks of memory up to `largest_bytes` (0: no limit but the sizes' own).

    Raises EngineMissingError without PyTorch, EngineError when it has no such device or does not get it.
    """
    if importlib.util.find_spec("torch") is None:
        raise EngineMissingError(Problem("", "", "PyTorch is not installed", INSTALL_HINT))
    command = [sys.executable, "-m", "samullm_tui.engines.hardware", device, str(seconds), str(largest_bytes)]
    # The driver's numbering, which everything else here goes by.
    environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=2 * seconds + SLACK_S,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(
            Problem(device, "", f"does not answer after {2 * seconds + SLACK_S:.0f} s")
        ) from None
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise EngineError(Problem(device, "", f"cannot be measured: {last}"))
    return msgspec.json.decode(done.stdout, type=Rates)


def _measure(device: str, seconds: float, largest_bytes: int) -> Rates:
    torch = import_module("torch")
    kind = device.partition(":")[0]
    if kind == "cpu":
        torch.set_num_threads(1)
    sizes = [mib * MIB for mib in COPY_BYTES[kind]]
    sizes = [size for size in sizes if not largest_bytes or size <= largest_bytes] or [largest_bytes]
    works = len(sizes) * 2 + len(SHAPES[kind]) * len(DTYPES)
    watch = _Stopwatch(torch, device, seconds / works)
    with torch.inference_mode():
        memory = list(_memory(torch, device, sizes, watch))
        arithmetic = list(_arithmetic(torch, device, SHAPES[kind], watch))
    uncached = f"{sizes[-1] / MIB:g} MiB"
    flops: dict[str, float] = {}
    for rate in arithmetic:
        flops[rate.what] = max(flops.get(rate.what, 0.0), rate.per_s)
    return Rates(
        device=device,
        name="" if kind == "cpu" else torch.cuda.get_device_name(device),
        threads=torch.get_num_threads() if kind == "cpu" else None,
        torch=str(torch.__version__),
        measured=(*memory, *arithmetic),
        bandwidth_bytes_per_s=max(rate.per_s for rate in memory if rate.size == uncached),
        flops_per_s=flops,
    )


def _memory(torch: Any, device: str, sizes: list[int], watch: _Stopwatch) -> Iterator[Rate]:
    """Copies count every byte twice, once read and once written."""
    for size in sizes:
        source = torch.ones(size // 4, dtype=torch.float32, device=device)
        target = torch.empty_like(source)
        yield watch.rate("copy", f"{size / MIB:g} MiB", 2 * size, partial(target.copy_, source))
        yield watch.rate("read", f"{size / MIB:g} MiB", size, source.sum)


def _arithmetic(
    torch: Any, device: str, shapes: tuple[tuple[int, int, int], ...], watch: _Stopwatch
) -> Iterator[Rate]:
    for name, short in DTYPES.items():
        for m, k, n in shapes:
            # Random numbers: a GPU multiplies equal ones with less power, and so faster than any LLM's.
            left = torch.randn(m, k, device=device).to(getattr(torch, name))
            right = torch.randn(k, n, device=device).to(getattr(torch, name))
            work = 2.0 * m * k * n
            rate = watch.rate(short, f"{m}×{k}×{n}", work, partial(torch.matmul, left, right))
            yield rate
            if work / rate.per_s > watch.budget_s:
                break  # Not a type that this device has arithmetic for: the larger shapes would take minutes.


class _Stopwatch:
    """Times some work over and over for about `budget_s`, at least once after one time for nothing."""

    def __init__(self, torch: Any, device: str, budget_s: float) -> None:
        self._finish = (lambda: torch.cuda.synchronize(device)) if device.startswith("cuda") else lambda: None
        self.budget_s = budget_s

    def rate(self, what: str, size: str, amount: float, work: Callable[[], object]) -> Rate:
        once_s = max(self._time(work, 1), self._time(work, 1))
        calls = max(1, int(self.budget_s / (REPEATS + 1) / max(once_s, 1e-7)))
        repeats = 1 if once_s > self.budget_s else REPEATS
        seconds = sorted(self._time(work, calls) / calls for _ in range(repeats))
        return Rate(
            what=what,
            size=size,
            per_s=amount / seconds[0],
            median_per_s=amount / seconds[len(seconds) // 2],
            repeats=repeats,
        )

    def _time(self, work: Callable[[], object], calls: int) -> float:
        self._finish()
        began_s = time.perf_counter()
        for _ in range(calls):
            work()
        self._finish()
        return time.perf_counter() - began_s


if __name__ == "__main__":
    device_, seconds_, largest_ = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else 0
    sys.stdout.buffer.write(msgspec.json.encode(_measure(device_, seconds_, largest_)) + b"\n")
