"""profile --hardware: what memory and arithmetic achieve, beside the rates that the catalog's estimates count on."""

from __future__ import annotations

import os
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from samullm_tui.cli.output import print_json, print_table, say
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.domain.errors import InputError, Problem
from samullm_tui.engines.hardware import MIB, Rates, devices, measure_hardware
from samullm_tui.forecast.profile_store import check_writable
from samullm_tui.telemetry.gpu import detect_cluster, driver_version
from samullm_tui.telemetry.host import processor_name

__all__ = ["hardware"]

BUDGET_S = 40.0
"""For all devices together: with PyTorch's own start of a few seconds each, under a minute."""
MEMORY_SHARE = 0.02


class Nominal(Struct, frozen=True):
    """What estimates count on for this kind of device: datasheet figures of a GPU, a cautious guess for a CPU slot."""

    gpu: str
    bandwidth_bytes_per_s: float
    flops_per_s: float


class Achieved(Struct, frozen=True):
    """`bandwidth_share` and `flops_share`: of the nominal rates, the latter in bf16; None where none are known."""

    rates: Rates
    nominal: Nominal | None
    bandwidth_share: float | None
    flops_share: float | None


class Report(Struct, frozen=True):
    """What `profile --hardware --json` prints."""

    date: str
    driver: str
    devices: tuple[Achieved, ...]


def hardware(arguments: Namespace) -> int:
    """Raises InputError, EngineMissingError (no PyTorch), EngineError (a device that does not do)."""
    if arguments.checkpoint:
        right = "either a CHECKPOINT or --hardware"
        raise InputError(Problem("", "--hardware", "measures no checkpoint", right))
    if arguments.output:
        check_writable(arguments.output.absolute().parent)
    cluster = detect_cluster()
    names = devices(cluster.gpus if cluster else 0)
    gpu = cluster.gpu if cluster else PRESETS["cpu"]
    found = []
    for name in names:
        say(f"measuring {name}")
        seconds = min(arguments.seconds, BUDGET_S) / len(names)
        found.append(_beside(measure_hardware(name, seconds, _most_bytes(name)), gpu))
    report = Report(datetime.now(UTC).date().isoformat(), driver_version() or "", tuple(found))
    problem = _write(report, arguments.output) if arguments.output else ""
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    if problem:
        say(problem)
    return 1 if problem else 0


def _most_bytes(device: str) -> int:
    """A copy on the CPU holds two blocks, and the machine has other things to do; on a GPU 8 GiB at most."""
    if device != "cpu":
        return 0
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(MIB, int(whole * MEMORY_SHARE))


def _beside(rates: Rates, gpu: GpuType) -> Achieved:
    """GPUs of no preset have figures that were guessed from the driver: no ratio is worth telling."""
    if rates.device == "cpu":
        rates = msgspec.structs.replace(rates, name=processor_name())
    if gpu.name not in {preset.name for preset in PRESETS.values()}:
        return Achieved(rates, None, None, None)
    nominal = Nominal(gpu.name, gpu.bandwidth_bytes_per_s, gpu.flops_per_s)
    return Achieved(
        rates,
        nominal,
        rates.bandwidth_bytes_per_s / nominal.bandwidth_bytes_per_s,
        rates.flops_per_s["bf16"] / nominal.flops_per_s,
    )


def _write(report: Report, path: Path) -> str:
    """What went wrong, if anything."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    except OSError as error:
        return f"{path}: cannot be written: {error.strerror}"
    say(f"written to {path}")
    return ""


def _print(report: Report) -> None:
    for one in report.devices:
        rates, nominal = one.rates, one.nominal
        threads = f", {rates.threads} thread" if rates.threads else ""
        rows = []
        for rate in rates.measured:
            bytes_ = rate.what in {"copy", "read"}
            unit, scale = ("GB/s", 1e9) if bytes_ else ("TFLOP/s", 1e12)
            peak = 0.0
            if nominal and (bytes_ or rate.what == "bf16"):
                peak = nominal.bandwidth_bytes_per_s if bytes_ else nominal.flops_per_s
            share = f"{rate.per_s / peak:.0%}" if peak else ""
            figures = (f"{rate.per_s / scale:,.3g} {unit}", f"{rate.median_per_s / scale:,.3g} {unit}")
            rows.append((rate.what, rate.size, *figures, share))
        of = f"of {nominal.gpu}" if nominal else ""
        print_table((f"{rates.device}: {rates.name}{threads}", "size", "best", "median", of), rows)
        if one.bandwidth_share is not None and one.flops_share is not None:
            print(
                f"achieved: {one.bandwidth_share:.0%} of the memory, {one.flops_share:.0%} of the arithmetic (bf16)"
            )
