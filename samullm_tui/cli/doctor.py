"""doctor: what this machine has, what is missing, and how to get it; with `--run`, the proof."""

from __future__ import annotations

import platform
from argparse import Namespace
from pathlib import Path

from msgspec import Struct

from samullm_tui.cli.output import print_json, print_table
from samullm_tui.cli.runs import start_and_follow
from samullm_tui.domain.event import GpuSample, HostSample
from samullm_tui.engines.installed import INSTALL_HINT, installed_vllm
from samullm_tui.locations import APPS, home
from samullm_tui.supervisor.machine import choose_machine
from samullm_tui.telemetry.gpu import driver_version, gpu_processes, sample_gpus
from samullm_tui.telemetry.host import sample_host

__all__ = ["doctor"]

GIB = 1024**3
NEEDED_DISK_BYTES = 5 * GIB
NEEDED_MEMORY_BYTES = 4 * GIB


class Finding(Struct, frozen=True):
    """One thing looked at. `remedy` is empty when nothing is missing."""

    what: str
    found: str
    remedy: str = ""


def doctor(arguments: Namespace) -> int:
    findings = [_python(), *_gpus(), _vllm(), *_profiles(), *_room()]
    missing = [f for f in findings if f.remedy]
    result: dict[str, object] = {"findings": findings, "home": str(home()), "ok": not missing}
    if not arguments.json:
        print_table(("what", "found"), [(f.what, f.found) for f in findings])
        for finding in missing:
            print(f"{finding.what}: {finding.remedy}")
    if not arguments.run:
        if arguments.json:
            print_json(result)
        return 0
    return _prove(arguments, result)


def _prove(arguments: Namespace, result: dict[str, object]) -> int:
    """Runs the self-test application on real engines: all rooms at once."""
    machine = choose_machine(None, "vllm")
    outcome = start_and_follow(APPS / "selftest.toml", machine, approve=True)
    result["run"] = outcome
    if arguments.json:
        print_json(result)
    else:
        print(
            f"self-test: {outcome.status}, {outcome.outputs} of {outcome.requests} outputs on {machine.cluster.title}"
        )
    return 0 if outcome.status == "succeeded" and outcome.outputs == outcome.requests else 1


def _python() -> Finding:
    return Finding("Python", platform.python_version())


def _gpus() -> list[Finding]:
    driver = driver_version()
    if driver is None:
        remedy = "install NVIDIA's driver to run on GPUs; without one, runs are simulated or on the CPU build of vLLM"
        return [Finding("GPUs", "none (no NVIDIA driver answers)", remedy)]
    gpus = [Finding(f"GPU {g.index}", _gpu_text(g)) for g in sample_gpus()]
    return [Finding("driver", driver), *gpus]


def _gpu_text(gpu: GpuSample) -> str:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return "memory not known"
    free = gpu.memory_total_bytes - gpu.memory_used_bytes
    users = "".join(
        f", {size / GIB:.1f} with process {pid}" for pid, size in gpu_processes(gpu.index).items()
    )
    return f"{free / GIB:.0f} of {gpu.memory_total_bytes / GIB:.0f} GiB free{users}"


def _vllm() -> Finding:
    vllm = installed_vllm()
    if vllm is None:
        return Finding("vLLM", "not installed", INSTALL_HINT)
    return Finding("vLLM", f"{vllm.version} ({vllm.distribution}, {vllm.build} build)")


def _profiles() -> list[Finding]:
    """What `profile` measured on this machine, and what of it cannot be read."""
    from samullm_tui.forecast.profile_store import read_store

    store = read_store()
    found = [
        Finding("profile", f"{p.checkpoint} on {p.gpu}, tp {p.tp}, {p.engine}")
        for p in store.profiles.values()
    ]
    return [
        *found,
        *(
            Finding("profile", f"{Path(p.file).name} is skipped", f"{p}: measure it again, or remove it")
            for p in store.problems
        ),
    ]


def _room() -> list[Finding]:
    host: HostSample = sample_host(home())
    free = host.memory_total_bytes - host.memory_used_bytes
    memory_remedy = "" if free >= NEEDED_MEMORY_BYTES else "two CPU engines need 4 GiB"
    disk_remedy = (
        ""
        if host.disk_free_bytes >= NEEDED_DISK_BYTES
        else "logs and outputs need room: free some, or set SAMULLM_HOME"
    )
    return [
        Finding("memory", f"{free / GIB:.1f} of {host.memory_total_bytes / GIB:.1f} GiB free", memory_remedy),
        Finding("disk", f"{host.disk_free_bytes / GIB:.0f} GiB free for runs", disk_remedy),
    ]
