"""The machine around the GPUs."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

from samullm_tui.domain.event import HostSample
from samullm_tui.domain.sanitise import sanitise_line

__all__ = ["available_bytes", "processor_name", "sample_host"]


def processor_name() -> str:
    """The CPU's model as Linux names it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return sanitise_line(next(models, "") or platform.machine(), 60)


def sample_host(path: Path) -> HostSample:
    """The machine now. `path` says which file system's free space; the CPU's load is that since the last call.

    Does not wait for the CPU, but for the file system, which may be a network's: call it off the event loop.
    The first call of a process says 0 for the CPU. What of `path` does not exist yet will lie where its parent lies.
    """
    path = path.absolute()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    memory = psutil.virtual_memory()
    return HostSample(
        cpu_utilization=psutil.cpu_percent(interval=None) / 100,
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        disk_free_bytes=psutil.disk_usage(str(existing)).free,
    )


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    return int(psutil.virtual_memory().available)
