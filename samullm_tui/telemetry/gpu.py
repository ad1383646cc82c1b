"""GPUs: which this machine has, and a sampler that watches them in a thread of its own."""

from __future__ import annotations

import re
import threading
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from samullm_tui.domain.cluster import PRESETS, Cluster, GpuType, islands_of
from samullm_tui.domain.event import GpuSample
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.telemetry.nvml import Nvml

__all__ = [
    "GpuSampler",
    "detect_cluster",
    "divided_gpus",
    "driver_version",
    "gpu_name",
    "gpu_processes",
    "gpu_type",
    "sample_gpus",
]


def driver_version() -> str | None:
    """The version of NVIDIA's driver; None when there is none that answers."""
    nvml = Nvml()
    try:
        return nvml.driver_version
    finally:
        nvml.close()


def gpu_name(index: int) -> str | None:
    """The product name of a GPU; None without it, or without a driver that answers."""
    nvml = Nvml()
    try:
        name = nvml.name(index) if index < nvml.count else None
    finally:
        nvml.close()
    return None if name is None else sanitise_line(name, 60)


def sample_gpus() -> tuple[GpuSample, ...]:
    """All GPUs of this machine now, or () when there are none. Takes some milliseconds, or long on a sick driver."""
    nvml = Nvml()
    try:
        return tuple(nvml.sample(index) for index in range(nvml.count))
    finally:
        nvml.close()


def gpu_processes(index: int) -> dict[int, int]:
    """Bytes of a GPU's memory by process id; {} where the driver does not tell, as in many containers."""
    nvml = Nvml()
    try:
        return nvml.processes(index) or {}
    finally:
        nvml.close()


def divided_gpus() -> tuple[int, ...]:
    """GPUs that are divided into MIG instances: an engine would get one of those, and not what the GPU has."""
    nvml = Nvml()
    try:
        return tuple(index for index in range(nvml.count) if nvml.divided(index))
    finally:
        nvml.close()


class GpuSampler:
    """Samples all GPUs about every `interval_s`, from its creation until it is closed.

    A driver can take seconds to answer, so nothing here waits for it: `latest()` is what was last seen.
    A GPU that vanishes stays in the list with nothing known about it.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self._interval_s = interval_s
        self._latest: tuple[GpuSample, ...] = ()
        self._problem = ""
        self._first = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gpu-sampler", daemon=True)
        self._thread.start()

    def latest(self) -> tuple[GpuSample, ...]:
        """The last sample of each GPU by index; () before the first one and without GPUs."""
        return self._latest

    @property
    def problem(self) -> str:
        """Why there are no samples, in one line; "" when there are, or not yet."""
        return self._problem

    def wait(self, timeout_s: float) -> bool:
        """Blocks until the GPUs were looked at once (or found missing). False when that took too long."""
        return self._first.wait(timeout_s)

    def close(self) -> None:
        """Ends the sampling. Does not wait for a driver that hangs longer than a moment."""
        self._closing.set()
        self._thread.join(timeout=1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self) -> None:
        nvml = Nvml()
        try:
            self._problem = nvml.problem
            known = 0
            while not self._closing.is_set():
                # A driver that lost a device may count fewer: the others keep their numbers, it becomes unknown.
                count = nvml.count
                if known and not count:  # the driver was loaded anew under us
                    nvml.close()
                    nvml = Nvml()
                known = max(known, count)
                self._latest = tuple(nvml.sample(index) for index in range(known))
                self._first.set()
                if not known:
                    self._problem = self._problem or "this machine has no NVIDIA GPU"
                    return
                self._closing.wait(self._interval_s)
        finally:
            self._first.set()
            nvml.close()


# --- which machine is this ---

MODELS = (
    ("A100", ("a100-40g", "a100-80g")),
    ("H100", ("h100-80g",)),
    ("H200", ("h200-141g",)),
    ("L40S", ("l40s-48g",)),
    ("RTX PRO 6000", ("rtxpro6000-96g",)),
)
# A GPU is of a preset's kind when its memory is within this share of the preset's (ECC and firmware take some).
MEMORY_TOLERANCE = 0.1

# For a GPU of no preset: memory speed of an older data-centre GPU when the driver does not tell it, and the
# smallest ratio of compute to memory speed among the presets (A100's), so that compute is not over-promised.
GENERIC_BANDWIDTH_BYTES_PER_S = 0.9e12
GENERIC_FLOPS_PER_BYTE = 150.0


def detect_cluster() -> Cluster | None:
    """The GPUs of this machine, in PCI order or as CUDA_VISIBLE_DEVICES lists them; None without any.

    A cluster has one kind of GPU: on a mixed machine it is that of GPU 0, up to the first of another kind.
    """
    nvml = Nvml()
    try:
        names = [nvml.name(index) for index in range(nvml.count)]
        gpus = next((k for k, name in enumerate(names) if name != names[0]), len(names))
        sizes = [size for index in range(gpus) if (size := nvml.memory_bytes(index))]
        if not names or names[0] is None or not sizes:
            return None
        gpu = gpu_type(names[0], min(sizes), nvml.bandwidth_bytes_per_s(0))
        islands = _islands(nvml, gpus) or islands_of(gpus, gpu.island_gpus)
        gpu = replace(gpu, island_gpus=max(map(len, islands)))
        return Cluster(name=f"{gpu.name}:{gpus}", gpu=gpu, gpus=gpus, islands=islands, origin="detected")
    finally:
        nvml.close()


def gpu_type(name: str, memory_bytes: int, bandwidth_bytes_per_s: float | None = None) -> GpuType:
    """The preset that a GPU of this product name and memory is, with its real memory; else generic figures."""
    for model, presets in MODELS:
        if re.search(rf"\b{model}\b", name):
            for preset in map(PRESETS.__getitem__, presets):
                if abs(memory_bytes / preset.memory_bytes - 1) < MEMORY_TOLERANCE:
                    return replace(preset, memory_bytes=memory_bytes)
    bandwidth = bandwidth_bytes_per_s or GENERIC_BANDWIDTH_BYTES_PER_S
    title = sanitise_line(name.removeprefix("NVIDIA "), 40)
    return GpuType(title, memory_bytes, bandwidth, bandwidth * GENERIC_FLOPS_PER_BYTE, island_gpus=1)


def _islands(nvml: Nvml, gpus: int) -> tuple[tuple[int, ...], ...] | None:
    """GPUs joined by NVLink, directly or through others. None when the driver does not say."""
    island = list(range(gpus))
    known = gpus == 1
    for one in range(gpus):
        for other in range(one + 1, gpus):
            linked = nvml.nvlinked(one, other)
            known = known or linked is not None
            if linked:
                island = [island[one] if label == island[other] else label for label in island]
    if not known:
        return None
    labels = dict.fromkeys(island)
    return tuple(tuple(gpu for gpu in range(gpus) if island[gpu] == label) for label in labels)
