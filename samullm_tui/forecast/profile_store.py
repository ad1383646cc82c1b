"""The profiles that were measured on this machine, and which profile an LLM is planned with.

One file for each checkpoint, GPU type, tp and engine version, in `$SAMULLM_HOME/profiles`. A stored profile comes
before the catalog's; whatever does not quite fit (another engine version, other engine arguments) is part of its
source, and the profile is then marked as an estimate.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from samullm_tui.catalog.profiles import Owned, estimated_profile, profile_of
from samullm_tui.catalog.shapes import shape_of
from samullm_tui.domain.application import LLM, Scalar
from samullm_tui.domain.cluster import GpuType
from samullm_tui.domain.errors import ApplicationError, InputError, Problem, ProfileError
from samullm_tui.engines.hub_cache import local_snapshot
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.forecast.checkpoint import read_shape
from samullm_tui.forecast.engine_setup import precision_for
from samullm_tui.latency.memory import BF16
from samullm_tui.latency.profile import Profile, decode_profile, default_limits, encode_profile
from samullm_tui.latency.roofline import Shape
from samullm_tui.locations import profiles_dir

__all__ = ["Store", "check_writable", "profile_for", "read_store", "stored_file", "write_profile"]

LIMITS = ("max_num_seqs", "max_num_batched_tokens")
"""Engine arguments that a forecast takes from the application, or else from the engine's own defaults."""
SIZES = ("block_size", "kv_cache_memory_bytes", "num_gpu_blocks_override", "gpu_memory_utilization")
"""Engine arguments from which a forecast computes the KV cache anew."""


class Store(Struct, frozen=True):
    """What can be read of the store, by file, and what is wrong with the rest of it."""

    profiles: Mapping[Path, Profile]
    problems: tuple[Problem, ...]


def read_store(checkpoint: str = "") -> Store:
    """All profiles of this machine, or those of one checkpoint. Never raises."""
    profiles: dict[Path, Profile] = {}
    problems: list[Problem] = []
    pattern = f"{_key(checkpoint)}--*.json" if checkpoint else "*.json"
    for file in sorted(profiles_dir().glob(pattern)):
        try:
            profiles[file] = decode_profile(file.read_bytes(), str(file))
        except OSError as error:
            problems.append(Problem(str(file), "", f"cannot be read: {error.strerror}"))
        except ProfileError as error:
            problems += error.problems
    return Store(profiles, tuple(problems))


def stored_file(checkpoint: str, gpu: str, tp: int, version: str) -> Path:
    """Where the profile of a checkpoint on a GPU type, at a tp, with a version of vLLM is kept."""
    parts = (_key(checkpoint), _slug(gpu), f"tp{tp}", f"vllm-{_slug(version)}")
    return profiles_dir() / ("--".join(parts) + ".json")


def check_writable(folder: Path) -> None:
    """Makes `folder`, so that a measurement of minutes is not lost for want of a place. Raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room for a profile" * 1024)
    except OSError as error:
        wrong = f"cannot be written to: {error.strerror}"
        right = "free some room, or give another folder (SAMULLM_HOME, -o)"
        raise InputError(Problem(str(folder), "", wrong, right)) from error


def write_profile(profile: Profile, path: Path) -> None:
    """Whole or not at all. Raises InputError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.write_bytes(encode_profile(profile))
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise InputError(Problem(str(path), "", f"cannot be written: {error.strerror}")) from error


def profile_for(llm: LLM, shape: Shape, gpu: GpuType, tp: int) -> Profile | None:
    """The profile to plan with: the one measured here, else the catalog's, else an estimate. None: it fits nowhere.

    A stored profile of another engine version, or measured with other engine arguments, is used and says so. One of
    another GPU is not used: the estimate that stands in says so.
    """
    stored = list(read_store(llm.checkpoint).profiles.values())
    ours = [p for p in stored if (p.checkpoint, p.gpu, p.tp) == (llm.checkpoint, gpu.name, tp)]
    if ours:
        return _as_served(max(ours, key=_preference), llm, gpu)
    precision = precision_for(llm)
    known = profile_of(llm.checkpoint, gpu, tp) if precision == BF16 else None
    if known is not None:
        return known
    estimate = estimated_profile(llm.checkpoint, shape, gpu, tp, precision=precision, own=_own(gpu))
    elsewhere = sorted({p.gpu for p in stored if p.gpu != gpu.name})
    if estimate is None or not elsewhere:
        return estimate
    return replace(
        estimate, source=f"{estimate.source} (the stored profile of {', '.join(elsewhere)} is not used)"
    )


def _own(gpu: GpuType) -> list[Owned]:
    """Everything that was measured here on that GPU type: it calibrates the GPU for other LLMs."""
    mine = [profile for profile in read_store().profiles.values() if profile.gpu == gpu.name]
    shaped = ((_shape(profile.checkpoint), profile) for profile in mine)
    return [(shape, profile.tp, profile) for shape, profile in shaped if shape is not None]


def _shape(checkpoint: str) -> Shape | None:
    """None: the catalog does not know it, and it is not on this machine any more."""
    folder = Path(checkpoint) if checkpoint.startswith("/") else local_snapshot(checkpoint)
    try:
        return shape_of(checkpoint) or (read_shape(folder) if folder else None)
    except ApplicationError:
        return None


def _preference(profile: Profile) -> tuple[bool, str]:
    """That of the installed engine first, then the latest."""
    vllm = installed_vllm()
    measured = profile.measured
    if measured is None:
        return False, ""
    return vllm is not None and measured.vllm == vllm.version, measured.date


def _as_served(profile: Profile, llm: LLM, gpu: GpuType) -> Profile:
    """The profile with the limits that the application's engines will have, marked where something differs."""
    measured = profile.measured
    given = measured.arguments if measured else {}
    defaults = default_limits(gpu)
    limits = {name: getattr(defaults, name) for name in LIMITS if name in given and name not in llm.engine}
    notes = []
    vllm = installed_vllm()
    if measured and vllm and measured.vllm != vllm.version:
        notes.append(f"measured with vLLM {measured.vllm}, installed is {vllm.version}")
    if _others(given) != _others(llm.engine):
        notes.append(
            f"measured with engine arguments {_text(given)}, the application gives {_text(llm.engine)}"
        )
    if notes:
        return replace(profile, **limits, estimate=True, source="; ".join(notes))
    return replace(profile, **limits)


def _others(arguments: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Those that change what a step costs."""
    return {name: value for name, value in arguments.items() if name not in {*LIMITS, *SIZES}}


def _text(arguments: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(_others(arguments).items())) or "of its own"


def _key(checkpoint: str) -> str:
    """Readable, and different for different checkpoints."""
    return f"{_slug(checkpoint)}-{hashlib.sha256(checkpoint.encode()).hexdigest()[:8]}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[-60:] or "x"
