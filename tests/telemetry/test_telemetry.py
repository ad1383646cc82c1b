"""GPUs through the real pynvml on a small C stand-in for NVIDIA's library, and the machine through psutil.

What cannot be asked is None, never an exception and never a made-up figure.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samullm_tui.domain.cluster import PRESETS
from samullm_tui.telemetry.gpu import gpu_type
from samullm_tui.telemetry.host import sample_host

MIB = 1024**2
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libnvidia-ml.so.1 with")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / "libnvidia-ml.so.1", source],
        check=True,
    )
    return folder


def run(body: str, environment: dict[str, str]) -> Any:
    """What `answer` is at the end of `body`, run in a Python of its own."""
    prelude = """
        import ctypes, json, sys
        from msgspec import to_builtins
        from samullm_tui.telemetry.gpu import GpuSampler, detect_cluster, divided_gpus, gpu_processes, sample_gpus
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(body) + "\nprint(json.dumps(to_builtins(answer)))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def ask(fake_library: Path) -> Ask:
    def ask(body: str, **figures: object) -> Any:
        environment = {f"FAKE_NVML_{name.upper()}": str(value) for name, value in figures.items()}
        visible = environment.pop("FAKE_NVML_VISIBLE", None)
        listed = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return run(body, {"LD_LIBRARY_PATH": str(fake_library), **environment, **listed})

    return ask


def sample(index: int, **without: None) -> dict[str, Any]:
    figures = {
        "utilization": (81 + index) / 100,
        "memory_used_bytes": 1000 * MIB,
        "memory_total_bytes": 143771 * MIB,
        "power_w": 350.5,
        "temperature_c": 61.0,
    }
    return {"index": index, "simulated": False, **figures, **without}


NOTHING: dict[str, None] = dict.fromkeys(
    ["utilization", "memory_used_bytes", "memory_total_bytes", "power_w", "temperature_c"]
)
LATEST = """
    with GpuSampler() as sampler:
        assert sampler.wait(60)
        answer = [sampler.latest(), sampler.problem]
"""


def test_normal_figures(ask: Ask) -> None:
    assert ask(LATEST, count=2) == [[sample(0), sample(1)], ""]


@pytest.mark.parametrize(
    ("visible", "utilizations"),
    [
        ("2,0", [0.83, 0.81]),
        ("GPU-3", [0.84]),
        ("1,9,0", [0.82]),
        ("3,GPU-9", [0.84]),
        ("0,-1,1", [0.81]),
        ("", []),
        ("-1", []),
    ],
)
def test_gpus_are_counted_as_the_environment_lists_them(
    ask: Ask, visible: str, utilizations: list[float]
) -> None:
    """Four GPUs, each with a utilization of its own; what stands behind an entry that names none does not count."""
    samples = ask("answer = sample_gpus()", count=4, visible=visible)
    assert [one["utilization"] for one in samples] == utilizations
    assert [one["index"] for one in samples] == list(range(len(utilizations)))
    cluster = ask("answer = detect_cluster()", count=4, visible=visible)
    assert (cluster["gpus"] if cluster else 0) == len(utilizations)


def test_a_gpu_of_the_list_that_is_lost_stays_in_it(ask: Ask) -> None:
    body = """
        library = ctypes.CDLL("libnvidia-ml.so.1")
        with GpuSampler(interval_s=0.01) as sampler:
            assert sampler.wait(60)
            library.fake_lose(2)
            while sampler.latest()[0].power_w is not None:
                pass
            answer = sampler.latest()
    """
    assert ask(body, count=4, visible="2,1") == [sample(0, **NOTHING), {**sample(1), "utilization": 0.82}]


def test_processes_and_divided_gpus_are_told_where_the_driver_tells(ask: Ask) -> None:
    assert ask("answer = [gpu_processes(0), divided_gpus()]") == [{}, []]
    processes = {"100": 1 << 30, "101": 2 << 30}
    told = ask("answer = [gpu_processes(0), divided_gpus()]", count=2, mig=1, processes=2)
    assert told == [processes, [1]]


def test_a_gpu_that_is_divided_is_named_before_a_run_is_planned_on_it(ask: Ask) -> None:
    body = """
        from samullm_tui.supervisor.machine import choose_machine
        answer = [note for note in choose_machine(None, "vllm").notes if "MIG" in note]
    """
    assert ask(body, count=2) == []
    (note,) = ask(body, count=2, mig=1)
    assert note.startswith("GPU 1 is divided into MIG instances")


def test_one_look_without_a_thread(ask: Ask) -> None:
    assert ask("answer = sample_gpus()", count=2) == [sample(0), sample(1)]


@pytest.mark.parametrize(
    ("field", "gone"),
    [
        ("p", {"power_w": None}),
        ("u", {"utilization": None}),
        ("t", {"temperature_c": None}),
        ("m", {"memory_used_bytes": None, "memory_total_bytes": None}),
        ("umpt", NOTHING),
    ],
)
def test_a_figure_that_may_not_be_read_is_unknown_alone(ask: Ask, field: str, gone: dict[str, None]) -> None:
    assert ask(LATEST, deny=field) == [[sample(0, **gone)], ""]


def test_the_driver_says_its_version_or_nothing(ask: Ask) -> None:
    body = "from samullm_tui.telemetry.gpu import driver_version; answer = driver_version()"
    assert ask(body) == "570.00 fake"
    assert ask(body, init=9) is None


def test_a_lost_gpu_is_unknown_and_the_others_keep_their_numbers(ask: Ask) -> None:
    body = """
        with GpuSampler(interval_s=0.001) as sampler:
            assert sampler.wait(60)
            answer = [sampler.latest()]
            ctypes.CDLL("libnvidia-ml.so.1").fake_lose(1)
            while sampler.latest() == answer[0]: pass
            answer.append(sampler.latest())
    """
    before, after = ask(body, count=3)
    assert before == [sample(0), sample(1), sample(2)]
    assert after == [sample(0), sample(1, **NOTHING), sample(2)]


def test_a_driver_that_is_loaded_anew_is_found_again(ask: Ask) -> None:
    body = """
        with GpuSampler(interval_s=0.001) as sampler:
            assert sampler.wait(60)
            ctypes.CDLL("libnvidia-ml.so.1").fake_unload()
            before = sampler.latest()
            seen = sampler.latest()
            for _ in range(2):  # a sample that began after the unloading, and the one after it
                while seen is before: seen = sampler.latest()
                before = seen
            while sampler.latest()[0].utilization is None: pass
            answer = sampler.latest()
    """
    assert ask(body, count=2) == [sample(0), sample(1)]


def test_without_gpus_there_are_no_samples_and_a_reason(ask: Ask) -> None:
    assert ask(LATEST, count=0) == [[], "this machine has no NVIDIA GPU"]
    assert ask("answer = detect_cluster()", count=0) is None


def test_a_driver_that_does_not_answer_is_named_without_its_control_characters(ask: Ask) -> None:
    samples, problem = ask(LATEST, init=999)
    assert samples == []
    assert problem.startswith("the NVIDIA driver does not answer")
    assert problem.isprintable()
    assert ask("answer = [sample_gpus(), detect_cluster()]", init=9) == [[], None]


def test_without_the_library_nothing_fails(tmp_path: Path) -> None:
    if ctypes.util.find_library("nvidia-ml"):
        pytest.skip("this machine has the real library")
    samples, problem = run(LATEST, {"LD_LIBRARY_PATH": str(tmp_path)})
    assert samples == []
    assert "no NVIDIA driver is installed" in problem
    assert run("answer = [sample_gpus(), detect_cluster()]", {"LD_LIBRARY_PATH": str(tmp_path)}) == [[], None]


def test_the_first_screen_does_not_pay_for_pynvml() -> None:
    assert run("answer = [m for m in ('pynvml', 'psutil') if m in sys.modules]", {}) == []


# --- which machine is this ---

CLUSTER = "answer = detect_cluster()"


def test_a_known_gpu_is_its_preset_with_its_real_memory(ask: Ask) -> None:
    cluster = ask(CLUSTER, count=4, island=4)
    assert (cluster["gpus"], cluster["origin"], cluster["islands"]) == (4, "detected", [[0, 1, 2, 3]])
    assert cluster["gpu"] == {
        "name": "H200-141GB",
        "memory_bytes": 143771 * MIB,
        "bandwidth_bytes_per_s": 4.8e12,
        "flops_per_s": 989e12,
        "island_gpus": 4,
        "kind": "gpu",
    }


def test_islands_are_what_nvlink_joins_else_what_the_preset_says(ask: Ask) -> None:
    a100 = {"name": "NVIDIA A100-SXM4-80GB", "mib": 81920, "count": 4}
    assert ask(CLUSTER, island=2, **a100)["islands"] == [[0, 1], [2, 3]]
    assert ask(CLUSTER, island=3, **a100)["islands"] == [[0, 1, 2], [3]]
    assert ask(CLUSTER, island=1, **a100)["islands"] == [[0], [1], [2], [3]]
    assert ask(CLUSTER, **a100)["islands"] == [[0, 1], [2, 3]]


def test_an_unknown_gpu_has_generic_figures_and_its_real_memory_speed(ask: Ask) -> None:
    gpu = ask(CLUSTER, name="NVIDIA GeForce \x1b[2J RTX 4090", mib=24564)["gpu"]
    assert (gpu["name"], gpu["memory_bytes"]) == ("GeForce ␛[2J RTX 4090", 24564 * MIB)
    assert gpu["bandwidth_bytes_per_s"] == pytest.approx(2 * 10001e6 * 384 / 8)
    assert gpu["flops_per_s"] == pytest.approx(gpu["bandwidth_bytes_per_s"] * 150)


def test_a_mixed_machine_is_its_first_gpus_of_one_kind(ask: Ask) -> None:
    cluster = ask(CLUSTER, count=3, last_name="NVIDIA T400 4GB")
    assert (cluster["gpus"], cluster["gpu"]["name"]) == (2, "H200-141GB")


def test_a_gpu_whose_memory_cannot_be_read_is_no_cluster(ask: Ask) -> None:
    assert ask(CLUSTER, deny="m") is None


@pytest.mark.parametrize(
    ("name", "mib", "preset"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, "a100-80g"),
        ("NVIDIA A100-PCIE-40GB", 40960, "a100-40g"),
        ("NVIDIA A100 80GB PCIe", 81920, "a100-80g"),
        ("NVIDIA H100 80GB HBM3", 81559, "h100-80g"),
        ("NVIDIA H200", 143771, "h200-141g"),
        ("NVIDIA L40S", 46068, "l40s-48g"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "rtxpro6000-96g"),
        ("NVIDIA RTX A1000", 8188, None),
        ("NVIDIA H100 NVL", 95830, None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9856, None),
    ],
)
def test_product_names_lead_to_presets(name: str, mib: int, preset: str | None) -> None:
    gpu = gpu_type(name, mib * MIB)
    assert gpu.memory_bytes == mib * MIB
    if preset:
        assert gpu.name == PRESETS[preset].name
        assert gpu.flops_per_s == PRESETS[preset].flops_per_s
    else:
        assert gpu.name not in {known.name for known in PRESETS.values()}


def test_the_host_is_measured_in_fractions_and_bytes(tmp_path: Path) -> None:
    first, second = sample_host(tmp_path), sample_host(tmp_path)
    for host in (first, second):
        assert 0.0 <= host.cpu_utilization <= 1.0
        assert 0 < host.memory_used_bytes < host.memory_total_bytes
        assert host.disk_free_bytes > 0
    assert sample_host(tmp_path / "not" / "yet").disk_free_bytes > 0
