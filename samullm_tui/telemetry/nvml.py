"""The NVIDIA management library, asked so that no missing library, right or device stops anyone.

`pynvml` is imported at the first question: the console's first screen does without it.

GPUs are counted as CUDA programs count them: by CUDA_VISIBLE_DEVICES where that is set, else as the driver does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from samullm_tui.domain.cluster import VISIBLE, visible_gpus
from samullm_tui.domain.event import GpuSample
from samullm_tui.domain.sanitise import sanitise_line

__all__ = ["Nvml"]


class Nvml:
    """A session with the library. `problem` says in one line why there is none ("" when there is).

    Questions about a device answer None when the library, the driver or the rights do not give the answer.
    """

    def __init__(self) -> None:
        import pynvml

        self._nvml: Any = pynvml
        self._visible = visible_gpus(os.environ.get(VISIBLE))
        self.problem = ""
        self._open = False
        try:
            pynvml.nvmlInit()
            self._open = True
        except pynvml.NVMLError_LibraryNotFound:
            self.problem = "no NVIDIA driver is installed (libnvidia-ml.so.1 was not found)"
        except pynvml.NVMLError as error:
            self.problem = sanitise_line(f"the NVIDIA driver does not answer: {error}", 200)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._ask(self._nvml.nvmlShutdown)

    @property
    def count(self) -> int:
        """How many GPUs there are for us; 0 without a session. An entry that names none ends the list, as in CUDA."""
        there = self._ask(self._nvml.nvmlDeviceGetCount) or 0 if self._open else 0
        if self._visible is None or not there:
            return there
        names = (int(e) < there if e.isdecimal() else self._named(e) is not None for e in self._visible)
        return next((k for k, known in enumerate(names) if not known), len(self._visible))

    @property
    def driver_version(self) -> str | None:
        version = self._ask(self._nvml.nvmlSystemGetDriverVersion) if self._open else None
        return None if version is None else sanitise_line(str(version), 40)

    def sample(self, index: int) -> GpuSample:
        """What GPU `index` does now, field by field."""
        nvml, handle = self._nvml, self._handle(index)
        if handle is None:
            return GpuSample(index)
        rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        celsius = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        return GpuSample(
            index=index,
            utilization=None if rates is None else rates.gpu / 100,
            memory_used_bytes=None if memory is None else memory.used,
            memory_total_bytes=None if memory is None else memory.total,
            power_w=None if milliwatts is None else milliwatts / 1000,
            temperature_c=None if celsius is None else float(celsius),
        )

    def name(self, index: int) -> str | None:
        """The product's name, such as "NVIDIA H200"."""
        name = self._ask(self._nvml.nvmlDeviceGetName, self._handle(index))
        return None if name is None else str(name)

    def memory_bytes(self, index: int) -> int | None:
        memory = self._ask(self._nvml.nvmlDeviceGetMemoryInfo, self._handle(index))
        return None if memory is None else int(memory.total)

    def bandwidth_bytes_per_s(self, index: int) -> float | None:
        """The memory's peak: two transfers a clock, as wide as its bus."""
        nvml, handle = self._nvml, self._handle(index)
        bits = self._ask(nvml.nvmlDeviceGetMemoryBusWidth, handle)
        megahertz = self._ask(nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM)
        return 2 * megahertz * 1e6 * bits / 8 if bits and megahertz else None

    def nvlinked(self, one: int, other: int) -> bool | None:
        """Whether two GPUs reach each other over NVLink."""
        nvml = self._nvml
        handles = self._handle(one), self._handle(other)
        status = self._ask(nvml.nvmlDeviceGetP2PStatus, *handles, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        return None if status is None else status == nvml.NVML_P2P_STATUS_OK

    def divided(self, index: int) -> bool | None:
        """Whether the GPU is divided into MIG instances: then programs get one of those, never the whole."""
        mode = self._ask(self._nvml.nvmlDeviceGetMigMode, self._handle(index))
        return None if mode is None else bool(mode[0])

    def processes(self, index: int) -> dict[int, int] | None:
        """Bytes of the GPU's memory by process id, as the driver's name space has it. Those it does not tell are 0."""
        found = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses, self._handle(index))
        return None if found is None else {one.pid: one.usedGpuMemory or 0 for one in found}

    def _handle(self, index: int) -> Any:
        if self._visible is None:
            return self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
        return self._named(self._visible[index]) if index < len(self._visible) else None

    def _named(self, entry: str) -> Any:
        """The device that an entry of CUDA_VISIBLE_DEVICES names."""
        if entry.isdecimal():
            return self._ask(self._nvml.nvmlDeviceGetHandleByIndex, int(entry))
        return self._ask(self._nvml.nvmlDeviceGetHandleByUUID, entry)

    def _ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        if None in arguments:  # a device without a handle knows nothing
            return None
        try:
            return question(*arguments)
        except self._nvml.NVMLError:
            return None
        except UnicodeDecodeError:
            return None
