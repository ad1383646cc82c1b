"""Which machine to plan for: a preset such as `a100-80g:8`, or a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from samullm_tui.domain.cluster import (
    GIB,
    MAX_GPUS,
    PRESETS,
    Cluster,
    GpuType,
    cluster_from_preset,
    islands_of,
)
from samullm_tui.domain.errors import ClusterError, InputError
from samullm_tui.workload.border import NAME_PATTERN, Strict, mistake, validate
from samullm_tui.workload.problems import Problems, did_you_mean, shown
from samullm_tui.workload.toml_file import read_toml

__all__ = ["load_cluster"]

Gpu = Annotated[int, Field(ge=0, lt=MAX_GPUS)]


class GpuModel(Strict):
    """Datasheet figures, in the units that datasheets use."""

    name: str = Field(pattern=NAME_PATTERN, description="what the GPU is called")
    memory_gib: float = Field(gt=0, le=10_000, description="memory in GiB")
    bandwidth_gb_per_s: float = Field(gt=0, le=1e6, description="peak memory bandwidth in 10⁹ bytes a second")
    tflops: float = Field(gt=0, le=1e6, description="dense bf16 peak in 10¹² operations a second")
    kind: Literal["gpu", "cpu"] = "gpu"


def _gpu(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise mistake(f"no GPU preset {shown(value)}", did_you_mean(value, PRESETS))
    gpu = PRESETS[value]
    return {
        "name": gpu.name.replace(" ", "-"),
        "memory_gib": gpu.memory_bytes / GIB,
        "bandwidth_gb_per_s": gpu.bandwidth_bytes_per_s / 1e9,
        "tflops": gpu.flops_per_s / 1e12,
        "kind": gpu.kind,
    }


class ClusterModel(Strict):
    name: str = Field(pattern=NAME_PATTERN, description="what the machine is called")
    gpu: Annotated[GpuModel, BeforeValidator(_gpu)] = Field(description="a preset, or a table of figures")
    gpus: int = Field(ge=1, le=MAX_GPUS, description="how many GPUs")
    islands: list[list[Gpu]] | None = None


def load_cluster(text: str) -> Cluster:
    """The cluster of a preset `NAME:COUNT` or of a TOML file. Raises ClusterError with everything that is wrong."""
    if not (text.endswith(".toml") or "/" in text):
        return cluster_from_preset(text)
    try:
        _, document, lines = read_toml(Path(text), "a cluster file (TOML), or a preset such as a100-80g:8")
    except InputError as error:
        raise ClusterError(error.problems) from error
    problems = Problems(text, lines=lines)
    stand_ins: dict[str, Any] = {"name": "unnamed", "gpu": "a100-80g", "gpus": 1}
    model, bad = validate(ClusterModel, document, "", problems, stand_ins)
    islands = tuple(map(tuple, model.islands or ()))
    if not bad & {"gpus", "islands"} and islands:
        _check_islands(islands, model.gpus, problems)
    if problems:
        raise ClusterError(problems.all())
    preset = PRESETS.get(document["gpu"]) if isinstance(document["gpu"], str) else None
    gpu = preset or _own_gpu(model.gpu)
    islands = islands or islands_of(model.gpus, gpu.island_gpus)
    return Cluster(name=model.name, gpu=gpu, gpus=model.gpus, islands=islands, origin="file")


def _own_gpu(model: GpuModel) -> GpuType:
    return GpuType(
        name=model.name,
        memory_bytes=int(model.memory_gib * GIB),
        bandwidth_bytes_per_s=model.bandwidth_gb_per_s * 1e9,
        flops_per_s=model.tflops * 1e12,
        kind=model.kind,
        island_gpus=MAX_GPUS if model.kind == "gpu" else 1,
    )


def _check_islands(islands: tuple[tuple[int, ...], ...], gpus: int, problems: Problems) -> None:
    """Every GPU stands in exactly one island."""
    listed = [gpu for island in islands for gpu in island]
    for gpu in sorted(set(listed)):
        if gpu >= gpus:
            problems.add("islands", f"there is no GPU {gpu}", f"GPUs 0 to {gpus - 1}")
        elif listed.count(gpu) > 1:
            problems.add("islands", f"GPU {gpu} stands there twice", "each GPU in one island")
    missing = sorted(set(range(gpus)) - set(listed))
    if missing:
        problems.add(
            "islands", f"GPUs {', '.join(map(str, missing))} are in no island", "each GPU in one island"
        )
    if not all(islands):
        problems.add("islands", "an island is empty", "at least one GPU in each")
