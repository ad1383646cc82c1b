"""Whether this machine has what the pieces need, found in seconds: `python -m benchmarks.gpu.check`.

Where packages were carried to a machine without network, this says what is still missing.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys

from msgspec import Struct

from benchmarks.gpu.place import Place, place_from
from benchmarks.table import print_table
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.telemetry.gpu import detect_cluster, sample_gpus

__all__ = ["Finding", "findings"]

GIB = 1024**3
MODULES = (
    "aiohttp",
    "msgspec",
    "numpy",
    "psutil",
    "pydantic",
    "pynvml",
    "scipy",
    "tokenizers",
    "tomli",
    "torch",
)
DISK_BYTES = {"full": 30 * GIB, "small": 2 * GIB}
"""Weights of one 8-billion LLM, and compiled code."""
FREE_SHARE = 0.95
FLAGS_S = 120.0
FLAGS = """
import sys
try:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
"""


class Finding(Struct, frozen=True):
    """`missing` says what to do; "" when nothing is missing."""

    what: str
    found: str
    missing: str = ""


def findings(place: Place) -> list[Finding]:
    return [_vllm(place), *map(_module, MODULES), _numba(), _gpu(place), _disk(place), _flags(place)]


def _vllm(place: Place) -> Finding:
    found = installed_vllm()
    if found is None or found.build != place.device:
        has = f"the {found.build.upper()} build" if found else "not installed"
        return Finding("vLLM", has, f"the {place.device.upper()} build is needed")
    return Finding("vLLM", f"{found.version}, {found.build.upper()} build")


def _module(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return Finding(name, f"cannot be imported: {error}", f"put {name} where this Python finds it")
    return Finding(name, str(getattr(module, "__version__", "there")))


def _numba() -> Finding:
    """A stand-in that compiles nothing runs the simulator a hundred times slower: planning would take minutes."""
    try:
        numba = importlib.import_module("numba")
        compiles = hasattr(numba.njit(lambda x: x), "py_func")
    except ImportError as error:
        return Finding("numba", f"cannot be imported: {error}", "a numba that takes this NumPy")
    if not compiles:
        return Finding("numba", "a stand-in that compiles nothing: plans and tables take minutes")
    return Finding("numba", str(numba.__version__))


def _gpu(place: Place) -> Finding:
    if place.device == "cpu":
        return Finding("device", "the CPU: a rehearsal, no figure of a GPU")
    cluster, samples = detect_cluster(), sample_gpus()
    if cluster is None:
        return Finding("GPU", "NVML sees none", "a driver that answers (nvidia-smi)")
    used, total = samples[0].memory_used_bytes, samples[0].memory_total_bytes
    if used is not None and total and used > (1 - FREE_SHARE) * total:
        return Finding("GPU", f"{used / GIB:.1f} GiB of it are in use", "nobody else on GPU 0")
    return Finding("GPU", cluster.title)


def _disk(place: Place) -> Finding:
    free = shutil.disk_usage(place.folder(".")).free
    short = (
        "" if free > DISK_BYTES[place.sizes] else f"{DISK_BYTES[place.sizes] / GIB:.0f} GiB at {place.work}"
    )
    return Finding("disk", f"{free / GIB:.0f} GiB free", short)


def _flags(place: Place) -> Finding:
    """Whether the vLLM that is installed takes the command line that engines are started with."""
    from samullm_tui.domain.application import LLM
    from samullm_tui.domain.plan import Replica
    from samullm_tui.engines.vllm_command import serve_command

    llm = LLM(name="x", checkpoint="/x", lengths="x", context=8192, engine={"load_format": "dummy"})
    command = serve_command(
        llm, "/x", Replica("x", (0,)), 8000, device=place.device, cookie="x/x/1", api_key="x", steps="/x"
    )
    script = [sys.executable, "-c", FLAGS, *command.argv[3:]]
    try:
        done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=FLAGS_S)
    except subprocess.TimeoutExpired:
        return Finding("engine arguments", f"vLLM does not answer within {FLAGS_S:.0f} s", "try it by hand")
    if done.returncode == 0:
        return Finding("engine arguments", "vLLM takes them")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Finding(
        "engine arguments", f"vLLM refuses them: {last[:200]}", "see samullm_tui/engines/vllm_command.py"
    )


def main() -> None:
    found = findings(place_from(__doc__ or ""))
    print_table(
        "what the pieces need", ("what", "found", "missing"), [(f.what, f.found, f.missing) for f in found]
    )
    raise SystemExit(2 if any(finding.missing for finding in found) else 0)


if __name__ == "__main__":
    main()
