"""The machine: one kind of GPU, how many, and which are joined by NVLink."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from samullm_tui.domain.errors import ClusterError, Problem

__all__ = [
    "MAX_GPUS",
    "PRESETS",
    "VISIBLE",
    "Cluster",
    "GpuType",
    "cluster_from_preset",
    "visible_gpus",
    "with_gpus",
]

GIB = 1024**3
MAX_GPUS = 64
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The environment variable by which whoever shares a machine out says which of its GPUs are ours."""


class GpuType(Struct, frozen=True):
    """Datasheet figures of one GPU. `flops_per_s` is dense bf16; rates are peaks, not achieved."""

    name: str
    memory_bytes: int
    bandwidth_bytes_per_s: float
    flops_per_s: float
    island_gpus: int = 8
    kind: Literal["gpu", "cpu"] = "gpu"


class Cluster(Struct, frozen=True, kw_only=True):
    """`gpus` equal GPUs, numbered from 0. tp stays inside an island.

    `origin`: preset (not this machine: everything on it is simulated), file, or detected.
    """

    name: str
    gpu: GpuType
    gpus: int
    islands: tuple[tuple[int, ...], ...]
    origin: Literal["preset", "file", "detected"] = "preset"

    @property
    def title(self) -> str:
        what = "CPU slots" if self.gpu.kind == "cpu" else self.gpu.name
        return f"{self.gpus} × {what}"


# Sources: vendors' datasheets. Islands: A100 pairs as in the SamuLLM testbed, all-to-all NVSwitch otherwise.
PRESETS: dict[str, GpuType] = {
    "a100-40g": GpuType("A100-40GB", 40 * GIB, 1.555e12, 312e12, 2),
    "a100-80g": GpuType("A100-80GB", 80 * GIB, 2.039e12, 312e12, 2),
    "h100-80g": GpuType("H100-80GB", 80 * GIB, 3.352e12, 989e12, 8),
    "h200-141g": GpuType("H200-141GB", 141 * GIB, 4.8e12, 989e12, 8),
    "l40s-48g": GpuType("L40S-48GB", 48 * GIB, 0.864e12, 362e12, 1),
    "rtxpro6000-96g": GpuType("RTX-PRO-6000-96GB", 96 * GIB, 1.792e12, 503e12, 1),
    "cpu": GpuType("CPU slot", 2 * GIB, 10e9, 50e9, 1, "cpu"),
}


def islands_of(gpus: int, island_gpus: int) -> tuple[tuple[int, ...], ...]:
    """GPUs 0 … gpus-1 in consecutive islands of `island_gpus` (the last may be smaller)."""
    return tuple(tuple(range(start, min(start + island_gpus, gpus))) for start in range(0, gpus, island_gpus))


def cluster_from_preset(text: str) -> Cluster:
    """`NAME:COUNT`, such as `a100-80g:8`. Raises ClusterError."""
    name, _, count = text.partition(":")
    right = f"one of {', '.join(PRESETS)} with a count from 1 to 64, such as a100-80g:8"
    if name not in PRESETS:
        raise ClusterError(Problem(text, "", f"unknown cluster preset {name!r}", right))
    if not (count.isascii() and count.isdigit() and 1 <= int(count) <= 64):
        raise ClusterError(Problem(text, "", f"{count!r} is not a number of GPUs", right))
    gpu = PRESETS[name]
    return Cluster(name=text, gpu=gpu, gpus=int(count), islands=islands_of(int(count), gpu.island_gpus))


def visible_gpus(listed: str | None) -> tuple[str, ...] | None:
    """The entries of CUDA_VISIBLE_DEVICES: numbers in PCI order, or UUIDs of GPUs or of MIG instances. None: all GPUs.

    GPU k of this program is the k-th of them, as in every CUDA program. What stands behind an entry that is empty or
    negative does not count, as CUDA has it.
    """
    if listed is None:
        return None
    entries = []
    for entry in (part.strip() for part in listed.split(",")):
        if not entry or entry.startswith("-"):
            break
        entries.append(entry)
    return tuple(entries)


def with_gpus(cluster: Cluster, gpus: int) -> Cluster:
    """What if it had so many GPUs: the first ones of it, or further islands as large as its largest.

    Raises ClusterError.
    """
    if not 1 <= gpus <= MAX_GPUS:
        raise ClusterError(Problem("", "--gpus", f"{gpus} GPUs", f"from 1 to {MAX_GPUS}"))
    if cluster.origin == "preset":
        return cluster_from_preset(f"{cluster.name.partition(':')[0]}:{gpus}")
    islands = [tuple(gpu for gpu in island if gpu < gpus) for island in cluster.islands]
    size = max(map(len, cluster.islands))
    islands += [tuple(range(start, min(start + size, gpus))) for start in range(cluster.gpus, gpus, size)]
    return Cluster(
        name=f"{cluster.name}-with-{gpus}",
        gpu=cluster.gpu,
        gpus=gpus,
        islands=tuple(filter(None, islands)),
        origin=cluster.origin if gpus == cluster.gpus else "file",
    )
