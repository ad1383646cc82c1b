"""On what a measurement was made: device, driver, versions, clocks, date."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct

from samullm_tui.domain.cluster import VISIBLE, visible_gpus
from samullm_tui.engines.installed import Device, installed_vllm
from samullm_tui.telemetry.gpu import driver_version, gpu_name
from samullm_tui.telemetry.host import processor_name

__all__ = ["Facts", "device_name", "facts_of", "first_gpu", "nvidia_smi"]

CLOCKS = ("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "power.limit", "persistence_mode")
SMI_S = 20.0


class Facts(Struct, frozen=True, kw_only=True):
    """`clocks`: what nvidia-smi says of clocks (MHz) and the power limit (W) at the end of the measurement.
    `load`: the machine's load average over one minute then."""

    date: str
    device: str
    driver: str
    vllm: str
    torch: str
    clocks: dict[str, str]
    load: float


def facts_of(device: Device) -> Facts:
    on_gpu = device == "gpu"
    vllm = installed_vllm()
    return Facts(
        date=datetime.now(UTC).date().isoformat(),
        device=device_name(device),
        driver=(driver_version() or "") if on_gpu else "",
        vllm=f"{vllm.version} ({vllm.build})" if vllm else "",
        torch=_version("torch"),
        clocks=nvidia_smi(CLOCKS) if on_gpu else {},
        load=os.getloadavg()[0],
    )


def device_name(device: Device) -> str:
    return (gpu_name(0) if device == "gpu" else None) or processor_name()


def first_gpu() -> str:
    """GPU 0 as nvidia-smi and CUDA take it."""
    return (visible_gpus(os.environ.get(VISIBLE)) or ("0",))[0]


def nvidia_smi(fields: tuple[str, ...]) -> dict[str, str]:
    """What nvidia-smi says of GPU 0, without units; {} when it does not answer."""
    command = [
        "nvidia-smi",
        f"--id={first_gpu()}",
        f"--query-gpu={','.join(fields)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SMI_S)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
