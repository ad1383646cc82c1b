"""Profiles of known LLMs: measured where there are measurements, else estimated from what is nearest to one."""

from __future__ import annotations

from functools import cache

import msgspec
from msgspec import Struct

from samullm_tui.catalog.shapes import DATA, known_checkpoint
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.latency.model import IterationLatency
from samullm_tui.latency.profile import Profile, default_limits
from samullm_tui.latency.roofline import Shape, kv_blocks, load_estimate_s, rescaled, roofline

__all__ = ["Facts", "ProfileTable", "estimated_profile", "profile_of"]

UTILIZATION = 0.9
"""Share of a GPU's memory that an estimated engine gets: that of the measured ones."""


class Facts(Struct, frozen=True, kw_only=True):
    """Measured start time and KV blocks of an LLM whose iterations were not measured at that tp."""

    checkpoint: str
    gpu: str
    tp: int
    load_s: float | None = None
    kv_blocks: int | None = None


class ProfileTable(Struct, frozen=True):
    """The content of data/profiles.json."""

    profiles: tuple[Profile, ...]
    facts: tuple[Facts, ...]


def profile_of(checkpoint: str, gpu: GpuType, tp: int) -> Profile | None:
    """The profile of an LLM whose iterations were measured on that GPU type at that tp (or those of an LLM of the
    same shape; its source says so).
    """
    return _profiles().get((known_checkpoint(checkpoint) or checkpoint, gpu.name, tp))


def estimated_profile(checkpoint: str, shape: Shape, gpu: GpuType, tp: int) -> Profile | None:
    """An estimate for an LLM without measured iterations on that GPU type at that tp. None: it does not fit there.

    Measured iterations of the same LLM on another tp or GPU type are rescaled by the ratio of the rooflines;
    without any, the roofline itself stands in. Measured start times and KV blocks are used where there are some.
    """
    if shape.heads % tp:
        return None
    known = known_checkpoint(checkpoint) or checkpoint
    limits = default_limits(gpu)
    facts = _facts().get((known, gpu.name, tp))
    blocks = facts.kv_blocks if facts else None
    if blocks is None:
        blocks = kv_blocks(
            shape,
            gpu,
            tp,
            block_size=limits.block_size,
            utilization=UTILIZATION,
            batched_tokens=limits.max_num_batched_tokens,
        )
    if blocks < 2:
        return None
    load_s = facts.load_s if facts else None
    iteration, source = _estimated_iteration(known, shape, gpu, tp)
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
    checkpoint: str, shape: Shape, gpu: GpuType, tp: int
) -> tuple[IterationLatency, str]:
    """The estimate and where it comes from."""
    wanted = roofline(shape, gpu, tp)
    nearest = _nearest(checkpoint, gpu, tp)
    if nearest is None:
        return wanted, f"estimate: roofline from the LLM's shape and the rates of {gpu.name}"
    origin = next(preset for preset in PRESETS.values() if preset.name == nearest.gpu)
    before = roofline(shape, origin, nearest.tp)
    source = f"estimate: measured on {nearest.gpu} at tp {nearest.tp}, rescaled to {gpu.name} at tp {tp}"
    return rescaled(nearest.iteration, before, wanted), source


def _nearest(checkpoint: str, gpu: GpuType, tp: int) -> Profile | None:
    """The measured profile of that LLM to rescale: same GPU type first, then the nearest tp."""
    measured = [p for p in _profiles().values() if p.checkpoint == checkpoint and gpu.kind == "gpu"]
    return min(
        measured, key=lambda p: (p.gpu != gpu.name, abs(p.tp.bit_length() - tp.bit_length())), default=None
    )


@cache
def _table() -> ProfileTable:
    return msgspec.json.decode((DATA / "profiles.json").read_bytes(), type=ProfileTable)


@cache
def _profiles() -> dict[tuple[str, str, int], Profile]:
    return {(p.checkpoint, p.gpu, p.tp): p for p in _table().profiles}


@cache
def _facts() -> dict[tuple[str, str, int], Facts]:
    return {(f.checkpoint, f.gpu, f.tp): f for f in _table().facts}
