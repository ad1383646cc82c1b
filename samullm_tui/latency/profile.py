"""A profile: everything the simulator must know about one LLM on one GPU type at one tp. PROFILE.json."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Struct, field

from samullm_tui.domain.cluster import GpuType
from samullm_tui.domain.errors import Problem, ProfileError
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency

__all__ = ["Limits", "Profile", "Provenance", "decode_profile", "default_limits", "encode_profile"]

GIB = 1024**3

DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
DAY_S = 86_400.0
MOST = {
    "tp": 1024,
    "block_size": 1 << 20,
    "kv_blocks": 10**9,
    "max_num_seqs": 10**6,
    "max_num_batched_tokens": 10**8,
    "max_model_len": 10**9,
}
"""Counts above these were not measured on any engine: a unit or a column was mistaken."""
MOST_COEFFICIENT_S = 1000.0
MOST_ERROR = 1000.0
RIGHT = "a profile as `profile` and `fit-latency` write it"


class Provenance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how the figures of a profile were measured.

    date          the day, YYYY-MM-DD
    device        product name of the GPU, or of the CPU; `driver` of the GPU, "" without one
    vllm, torch   versions; `dtype` that the engine computed in
    asynchronous  whether it scheduled a step before it knew the tokens of the one ahead
    arguments     engine arguments that were given, by vLLM's Python names
    beside        further engines of the LLM that started and worked on the same machine at the same time
    starts_s      seconds of the starts, those of one round together; the first round may have found cold caches
    rows          steps measured, of which `held_out_rows` were kept out of the fit
    """

    date: str
    device: str
    vllm: str
    driver: str = ""
    torch: str = ""
    dtype: str = ""
    asynchronous: bool = False
    max_model_len: int = 1
    arguments: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    beside: int = 0
    starts_s: tuple[tuple[float, ...], ...] = ()
    rows: int = 0
    held_out_rows: int = 0


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one LLM runs on one GPU type at one tp.

    engine        name and version of the engine that was measured
    source        where the figures come from, in words
    load_s        seconds from starting an engine to its first token; None: not known
    kv_blocks     as the engine reports them (one is reserved); None: not known
    estimate      whether the iteration latency was estimated instead of measured
    median_ape, mape, bias   errors of the iteration model on rows kept out of its fit; None: not known
    measured      where and how, when `profile` measured it on an engine
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
    measured: Provenance | None = None


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
        raise ProfileError(Problem(file, place, wrong, RIGHT)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(Problem(file, "", f"not JSON: {error}", RIGHT)) from None
    problems = [Problem(file, place, wrong, right) for place, wrong, right in _wrong_values(profile)]
    if problems:
        raise ProfileError(problems)
    return profile


def _wrong_values(profile: Profile) -> list[tuple[str, str, str]]:
    """(place, what is wrong, what would be right)."""
    found = _wrong_latency(profile.iteration)
    for name in ("tp", "block_size", "max_num_seqs", "max_num_batched_tokens"):
        found += _wrong_count(name, getattr(profile, name), 1)
    if profile.kv_blocks is not None:
        found += _wrong_count("kv_blocks", profile.kv_blocks, 2, " (the engine reserves one)")
    if profile.load_s is not None:
        found += _wrong_number("load_s", profile.load_s, 0.0, DAY_S, "seconds")
    for name, least in (("median_ape", 0.0), ("mape", 0.0), ("bias", -1.0)):
        value = getattr(profile, name)
        if value is not None:
            found += _wrong_number(name, value, least, MOST_ERROR, "a relative error")
    return [*found, *_wrong_provenance(profile.measured)] if profile.measured else found


def _wrong_provenance(measured: Provenance) -> Iterator[tuple[str, str, str]]:
    if not DATE.fullmatch(measured.date):
        yield "measured.date", repr(measured.date), "a day as YYYY-MM-DD"
    yield from _wrong_count("measured.max_model_len", measured.max_model_len, 1)
    for name, value in (("beside", measured.beside), ("held_out_rows", measured.held_out_rows)):
        if value < 0:
            yield f"measured.{name}", f"{value}", "a whole number from 0 up"
    if measured.rows < measured.held_out_rows:
        yield "measured.rows", f"{measured.rows}", f"at least the {measured.held_out_rows} that were kept out"
    for index, seconds in enumerate(second for one in measured.starts_s for second in one):
        yield from _wrong_number(f"measured.starts_s (the {index + 1}.)", seconds, 0.0, DAY_S, "seconds")


def _wrong_count(place: str, value: int, least: int, why: str = "") -> list[tuple[str, str, str]]:
    most = MOST[place.rpartition(".")[2]]
    right = f"a whole number from {least} to {most:,}{why}"
    return [] if least <= value <= most else [(place, f"{value}", right)]


def _wrong_number(
    place: str, value: float, least: float, most: float, what: str
) -> list[tuple[str, str, str]]:
    right = f"{what} from {least:g} to {most:g}"
    return [] if least <= value <= most else [(place, f"{value:g}", right)]


def _wrong_latency(latency: IterationLatency) -> list[tuple[str, str, str]]:
    values = latency.coefficients
    if len(values) != len(COEFFICIENTS):
        right = f"{len(COEFFICIENTS)}: {', '.join(COEFFICIENTS)}"
        return [("iteration.coefficients", f"{len(values)} coefficients", right)]
    found = [
        (f"iteration.coefficients[{i}] ({name})", f"{value:g}", f"seconds from 0 to {MOST_COEFFICIENT_S:g}")
        for i, (name, value) in enumerate(zip(COEFFICIENTS, values, strict=True))
        if not (math.isfinite(value) and 0 <= value <= MOST_COEFFICIENT_S)
    ]
    if not found and sum(values) == 0:
        found.append(("iteration.coefficients", "all are 0", "a step takes time"))
    if latency.experts < 0 or not 0 <= latency.experts_per_token <= latency.experts:
        wrong = f"{latency.experts_per_token} of {latency.experts} experts per token"
        found.append(("iteration.experts_per_token", wrong, "from 0 to experts"))
    return found
