"""Profiles of known LLMs: measured where there are measurements, else estimated from what is nearest to one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
from msgspec import Struct

from samullm_tui.catalog.shapes import DATA, known_checkpoint
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.latency.memory import BF16, DEFAULT_UTILIZATION, Precision, kv_blocks
from samullm_tui.latency.model import IterationLatency
from samullm_tui.latency.profile import Profile, default_limits
from samullm_tui.latency.roofline import Rates, Shape, load_estimate_s, rescaled, roofline
from samullm_tui.latency.sharing import calibrated_rates

__all__ = ["Facts", "Owned", "ProfileTable", "estimated_profile", "profile_of", "unlimited"]

Owned = tuple[Shape, int, Profile]
"""A profile that the user measured: the LLM's shape, its tp, and what was measured."""


class Facts(Struct, frozen=True, kw_only=True):
    """Measured start time and KV blocks of an LLM whose iterations were not measured at that tp."""

    checkpoint: str
    gpu: str
    tp: int
    load_s: float | None = None
    kv_blocks: int | None = None


class ProfileTable(Struct, frozen=True):
    """The content of data/profiles.json. `rates`: by GPU type, those that its measured LLMs share."""

    profiles: tuple[Profile, ...]
    facts: tuple[Facts, ...]
    rates: dict[str, Rates]


def profile_of(checkpoint: str, gpu: GpuType, tp: int) -> Profile | None:
    """The profile of an LLM whose iterations were measured on that GPU type at that tp (or those of an LLM of the
    same shape; its source says so).
    """
    return _profiles().get((known_checkpoint(checkpoint) or checkpoint, gpu.name, tp))


def estimated_profile(
    checkpoint: str,
    shape: Shape,
    gpu: GpuType,
    tp: int,
    *,
    own: Sequence[Owned] = (),
    precision: Precision = BF16,
) -> Profile | None:
    """An estimate for an LLM without measured iterations on that GPU type at that tp. None: it does not fit there.

    In this order: iterations of the same LLM at another tp of that GPU type, rescaled; the rates that LLMs measured
    on that GPU type share (`sharing.py`), applied to the shape; iterations of the same LLM on another GPU type,
    rescaled; the roofline alone. `own` are the user's profiles on that GPU type: where there are any, their rates
    replace those of the shipped ones, which are of another engine. Measured start times and KV blocks are used
    where there are some.
    """
    if shape.heads % tp:
        return None
    known = known_checkpoint(checkpoint) or checkpoint
    limits = default_limits(gpu)
    facts = _facts().get((known, gpu.name, tp)) if precision == BF16 else None
    blocks = facts.kv_blocks if facts else None
    if blocks is None:
        blocks = kv_blocks(
            shape,
            gpu,
            tp,
            block_size=limits.block_size,
            utilization=DEFAULT_UTILIZATION,
            batched_tokens=limits.max_num_batched_tokens,
            precision=precision,
        )
    if blocks < 2:
        return None
    load_s = facts.load_s if facts else None
    iteration, source = _estimated_iteration(known, shape, gpu, tp, tuple(own), precision)
    return Profile(
        iteration=iteration,
        checkpoint=known,
        gpu=gpu.name,
        tp=tp,
        source=source + ("; start time measured" if load_s is not None else "; start time estimated"),
        load_s=load_s if load_s is not None else load_estimate_s(shape, gpu, tp),
        kv_blocks=blocks,
        block_size=limits.block_size,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        estimate=True,
    )


def _estimated_iteration(
    checkpoint: str, shape: Shape, gpu: GpuType, tp: int, own: tuple[Owned, ...], precision: Precision
) -> tuple[IterationLatency, str]:
    """The estimate and where it comes from."""
    rates = _rates(gpu, own)
    wanted = roofline(shape, gpu, tp, rates, precision)
    known = [profile for _shape, _tp, profile in own] if own else list(_profiles().values())
    nearest = _nearest([profile for profile in known if profile.checkpoint == checkpoint], gpu, tp)
    elsewhere = nearest is not None and nearest.gpu != gpu.name
    if nearest is None or (elsewhere and rates is not None):
        if rates is None:
            return wanted, f"estimate: roofline from the LLM's shape and the rates of {gpu.name}"
        whose = "LLMs that you measured" if own else "other LLMs measured"
        return wanted, f"estimate: roofline from the LLM's shape, calibrated by {whose} on {gpu.name}"
    origin = next(preset for preset in PRESETS.values() if preset.name == nearest.gpu) if elsewhere else gpu
    before = roofline(shape, origin, nearest.tp, _rates(origin, () if elsewhere else own))
    source = f"estimate: measured on {nearest.gpu} at tp {nearest.tp}, rescaled to {gpu.name} at tp {tp}"
    return rescaled(nearest.iteration, before, wanted), source


def _nearest(measured: Sequence[Profile], gpu: GpuType, tp: int) -> Profile | None:
    """The measured profile of that LLM to rescale: same GPU type first, then the nearest tp."""
    return min(
        (profile for profile in measured if gpu.kind == "gpu"),
        key=lambda p: (p.gpu != gpu.name, abs(p.tp.bit_length() - tp.bit_length())),
        default=None,
    )


def _rates(gpu: GpuType, own: tuple[Owned, ...]) -> Rates | None:
    """Those of the user's profiles on that GPU type, else of the shipped ones; None where nobody measured."""
    if not own:
        return _table().rates.get(gpu.name)
    return calibrated_rates([(unlimited(shape), tp, profile.iteration) for shape, tp, profile in own], gpu)


def unlimited(shape: Shape) -> Shape:
    """Without its context, which is no matter of speed: LLMs that differ in it alone are of one shape."""
    return msgspec.structs.replace(shape, context=0)


@cache
def _table() -> ProfileTable:
    return msgspec.json.decode((DATA / "profiles.json").read_bytes(), type=ProfileTable)


@cache
def _profiles() -> dict[tuple[str, str, int], Profile]:
    return {(p.checkpoint, p.gpu, p.tp): p for p in _table().profiles}


@cache
def _facts() -> dict[tuple[str, str, int], Facts]:
    return {(f.checkpoint, f.gpu, f.tp): f for f in _table().facts}
