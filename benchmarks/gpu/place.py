"""Where a piece measures, how large, for how long, and where its results go."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Literal

from msgspec import Struct

from benchmarks.gpu.facts import device_name
from samullm_tui.engines.installed import Device, installed_vllm
from samullm_tui.locations import cache_dir
from samullm_tui.telemetry.gpu import detect_cluster

__all__ = ["PIECE_S", "Place", "place_from"]

SizeName = Literal["small", "full"]
RESULTS = Path(__file__).resolve().parents[1] / "results"
PIECE_S = 520.0
"""A lent machine may end a command after ten minutes: a piece stops before that, and goes on when called again."""


class Place(Struct, frozen=True, kw_only=True):
    """`results` is kept; `work` (checkpoints, logs, the home of runs) may be deleted at any time. `only` these parts of a
    piece are measured, all where it is empty.
    """

    device: Device
    sizes: SizeName
    results: Path
    work: Path
    ends_s: float
    only: tuple[str, ...] = ()

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.ends_s - time.monotonic()

    @property
    def cluster(self) -> str:
        """What `--cluster` is given for an engine alone on its machine."""
        return "cpu:1" if self.device == "cpu" else ""

    def folder(self, name: str) -> Path:
        """A folder of that name under `work`."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def place_from(about: str, budget_s: float = PIECE_S) -> Place:
    """The place that the command line asks for: the GPU with all sizes where there is one, else a CPU rehearsal."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--device", choices=("gpu", "cpu"), help="default: gpu where there is one")
    parser.add_argument("--sizes", choices=("small", "full"), help="default: full on a GPU, small on a CPU")
    text = f"what is not done by then is left for another call (default {budget_s:g})"
    parser.add_argument("--budget-s", type=float, default=budget_s, metavar="S", help=text)
    text = "default: benchmarks/results/ and the device's name"
    parser.add_argument("--results", type=Path, metavar="FOLDER", help=text)
    text = "a part to measure, the others are left; may be given again (default: all)"
    parser.add_argument("--only", action="append", default=[], metavar="PART", help=text)
    arguments = parser.parse_args()
    device: Device = arguments.device or ("gpu" if detect_cluster() else "cpu")
    sizes: SizeName = arguments.sizes or ("full" if device == "gpu" else "small")
    name = _slug(device, sizes)
    results = (arguments.results or RESULTS / name).absolute()
    results.mkdir(parents=True, exist_ok=True)
    return Place(
        device=device,
        sizes=sizes,
        results=results,
        work=cache_dir() / "gpu-benchmarks" / name,
        ends_s=time.monotonic() + arguments.budget_s,
        only=tuple(arguments.only),
    )


def _slug(device: Device, sizes: SizeName) -> str:
    """Results of another GPU, another vLLM or other sizes are others. A rehearsal is never taken for a measurement."""
    vllm = installed_vllm()
    name = device_name(device) if device == "gpu" else "cpu"
    slug = re.sub(r"[^a-z0-9.]+", "-", f"{name} vllm {vllm.version if vllm else 'none'}".lower()).strip("-")
    return slug if sizes == "full" else f"{slug}-small"
