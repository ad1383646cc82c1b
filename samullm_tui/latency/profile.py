"""A profile: everything the simulator must know about one LLM on one GPU type at one tp. PROFILE.json."""

from __future__ import annotations

import math

import msgspec
from msgspec import Struct

from samullm_tui.domain.cluster import GpuType
from samullm_tui.domain.errors import Problem, ProfileError
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency

__all__ = ["Limits", "Profile", "decode_profile", "default_limits", "encode_profile"]

GIB = 1024**3


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one LLM runs on one GPU type at one tp.

    engine        name and version of the engine that was measured
    source        where the figures come from, in words
    load_s        seconds from starting an engine to its first token; None: not known
    kv_blocks     as the engine reports them (one is reserved); None: not known
    estimate      whether the iteration latency was estimated instead of measured
    median_ape, mape, bias   errors of the iteration model on rows kept out of its fit; None: not known
    """

    iteration: IterationLatency
    checkpoint: str = ""
    gpu: str = ""
    tp: int = 1
    engine: str = ""
    source: str = ""
    load_s: float | None = None
    kv_blocks: int | None = None
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    estimate: bool = False
    median_ape: float | None = None
    mape: float | None = None
    bias: float | None = None


class Limits(Struct, frozen=True):
    """What an engine server takes when it is not told: sequences and tokens of a step, tokens of a KV block."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int


def default_limits(gpu: GpuType) -> Limits:
    """Defaults of a vLLM server (`vllm/engine/arg_utils.py`, 0.32)."""
    if gpu.kind == "cpu":
        return Limits(128, 2048, 128)
    if gpu.memory_bytes >= 160 * GIB:
        return Limits(1024, 16384, 16)
    if gpu.memory_bytes >= 70 * GIB and not gpu.name.startswith("A100"):
        return Limits(1024, 8192, 16)
    return Limits(256, 2048, 16)


def encode_profile(profile: Profile) -> bytes:
    """The JSON of `profile`, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"


def decode_profile(data: bytes, file: str) -> Profile:
    """The profile in the bytes of `file`. Raises ProfileError with every value that is out of range."""
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except msgspec.ValidationError as error:
        wrong, _, path = str(error).partition(" - at ")
        place = path.strip("`").removeprefix("$").removeprefix(".")
        raise ProfileError(Problem(file, place, wrong, "a profile as fit-latency writes it")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(
            Problem(file, "", f"not JSON: {error}", "a profile as fit-latency writes it")
        ) from None
    problems = [Problem(file, place, wrong, right) for place, wrong, right in _wrong_values(profile)]
    if problems:
        raise ProfileError(problems)
    return profile


def _wrong_values(profile: Profile) -> list[tuple[str, str, str]]:
    """(place, what is wrong, what would be right)."""
    found = _wrong_latency(profile.iteration)
    for name in ("tp", "block_size", "max_num_seqs", "max_num_batched_tokens"):
        if getattr(profile, name) < 1:
            found.append((name, f"{getattr(profile, name)}", "a whole number from 1 up"))
    if profile.kv_blocks is not None and profile.kv_blocks < 2:
        found.append(("kv_blocks", f"{profile.kv_blocks}", "at least 2: the engine reserves one"))
    if profile.load_s is not None and not profile.load_s >= 0:
        found.append(("load_s", f"{profile.load_s:g}", "seconds from 0 up"))
    return found


def _wrong_latency(latency: IterationLatency) -> list[tuple[str, str, str]]:
    values = latency.coefficients
    if len(values) != len(COEFFICIENTS):
        right = f"{len(COEFFICIENTS)}: {', '.join(COEFFICIENTS)}"
        return [("iteration.coefficients", f"{len(values)} coefficients", right)]
    found = [
        (f"iteration.coefficients[{i}] ({name})", f"{value:g}", "seconds from 0 up")
        for i, (name, value) in enumerate(zip(COEFFICIENTS, values, strict=True))
        if not (math.isfinite(value) and value >= 0)
    ]
    if not found and sum(values) == 0:
        found.append(("iteration.coefficients", "all are 0", "a step takes time"))
    if latency.experts < 0 or not 0 <= latency.experts_per_token <= latency.experts:
        wrong = f"{latency.experts_per_token} of {latency.experts} experts per token"
        found.append(("iteration.experts_per_token", wrong, "from 0 to experts"))
    return found
