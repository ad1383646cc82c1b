"""Which (tp, dp) an LLM may have on a cluster, and which GPUs a stage's placements get."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from samullm_tui.domain import errors
from samullm_tui.domain.plan import Placement, Replica
from samullm_tui.planner.pins import FREE, allowed_islands, barred_gpus
from samullm_tui.simulate.application import LLMModel, Problem

__all__ = ["Size", "check_fits", "free_group", "pack", "sizes_of", "smallest", "stays"]


class Size(NamedTuple):
    """`dp` engines on `tp` GPUs each."""

    tp: int
    dp: int

    @property
    def gpus(self) -> int:
        return self.tp * self.dp


def sizes_of(llm: LLMModel, problem: Problem) -> tuple[Size, ...]:
    """Every (tp, dp) of `llm` that an empty cluster can hold and that its pin allows, small ones first."""
    islands, pin = allowed_islands(problem, llm.name), problem.pins.get(llm.name, FREE)
    most = {shape.tp: sum(len(island) // shape.tp for island in islands) for shape in llm.shapes}
    sizes = (Size(tp, dp) for tp, replicas in most.items() for dp in range(1, replicas + 1))
    return tuple(sorted((s for s in sizes if pin.allows(*s)), key=lambda size: (size.gpus, size.tp)))


def smallest(llm: LLMModel, problem: Problem) -> Size:
    """The size with the fewest GPUs. Raises PlacementError when no island is large enough for any tp."""
    sizes = sizes_of(llm, problem)
    if not sizes:
        island = max(map(len, problem.islands), default=0)
        needed = min((shape.tp for shape in llm.shapes), default=0)
        wrong = f"needs {needed} GPUs joined by NVLink" if needed else "has no tensor-parallel size that fits"
        raise errors.PlacementError(
            errors.Problem("", f"LLM {llm.name}", wrong, f"the largest island has {island}")
        )
    return sizes[0]


def check_fits(problem: Problem, units: Iterable[tuple[int, ...]]) -> None:
    """Raises PlacementError, naming every LLM that fits nowhere and every circle of LLMs that does not fit together."""
    wrong: list[errors.Problem] = []
    for unit in units:
        try:
            sizes = {problem.llms[llm].name: smallest(problem.llms[llm], problem) for llm in unit}
        except errors.PlacementError as error:
            wrong += error.problems
            continue
        if pack(problem, sizes) is None:
            needed = sum(size.gpus for size in sizes.values())
            what = f"they feed each other and need {needed} GPUs at once"
            wrong.append(errors.Problem("", f"LLMs {', '.join(sizes)}", what, f"there are {problem.gpus}"))
    if wrong:
        raise errors.PlacementError(wrong)


def pack(
    problem: Problem, wanted: Mapping[str, Size], running: frozenset[Replica] = frozenset()
) -> tuple[Placement, ...] | None:
    """GPUs for every placement of a stage; None when they do not fit together.

    A running replica of the wanted tp stays on its GPUs. Where that leaves no island for a larger tp, the
    smallest running replicas give way, one after another, those first whose island is the emptiest.
    Large tp get their islands first; within an island a group starts at a multiple of its tp where it can. What pins
    do not allow does not fit.
    """
    if not all(problem.pins[llm].allows(*size) for llm, size in wanted.items() if llm in problem.pins):
        return None
    kept = _keepable(wanted, running)
    while True:
        placed = _fill(problem, wanted, kept)
        if placed is not None:
            return tuple(_placement(llm, size, placed) for llm, size in wanted.items())
        if not kept:
            return None
        kept.remove(
            min(kept, key=lambda replica: (replica.tp, _company(problem, kept, replica), replica.gpus))
        )


def stays(placements: Iterable[Placement], running: frozenset[Replica], llms: Collection[str]) -> bool:
    """Whether every running replica of `llms` is where it was."""
    replicas = {replica for placement in placements for replica in placement.replicas}
    return all(replica in replicas for replica in running if replica.llm in llms)


def _keepable(wanted: Mapping[str, Size], running: frozenset[Replica]) -> list[Replica]:
    kept: list[Replica] = []
    for llm, size in wanted.items():
        same = sorted((r for r in running if r.llm == llm and r.tp == size.tp), key=lambda r: r.gpus)
        kept += same[: size.dp]
    return kept


def _company(problem: Problem, kept: list[Replica], replica: Replica) -> int:
    """Kept GPUs in the island of `replica`: what would have to move to clear it."""
    island = next(set(island) for island in problem.islands if replica.gpus[0] in island)
    return sum(len(island.intersection(other.gpus)) for other in kept)


def _fill(problem: Problem, wanted: Mapping[str, Size], kept: list[Replica]) -> list[Replica] | None:
    """`kept` and as many new replicas as `wanted` lacks, or None. LLMs with the fewest GPUs to choose from come first."""
    taken = {gpu for replica in kept for gpu in replica.gpus}
    placed = list(kept)
    barred = {llm: barred_gpus(problem, llm) for llm in wanted}
    for llm, size in sorted(wanted.items(), key=lambda item: (-len(barred[item[0]]), -item[1].tp)):
        for _ in range(size.dp - sum(replica.llm == llm for replica in kept)):
            gpus = free_group(problem, size.tp, taken | barred[llm])
            if gpus is None:
                return None
            taken.update(gpus)
            placed.append(Replica(llm, gpus))
    return placed


def free_group(problem: Problem, tp: int, taken: Collection[int]) -> tuple[int, ...] | None:
    """`tp` free GPUs of one island: the island with the least room that is enough, an aligned group first."""
    best: tuple[tuple[bool, int], tuple[int, ...]] | None = None
    for island in problem.islands:
        free = tuple(gpu for gpu in island if gpu not in taken)
        if len(free) < tp:
            continue
        aligned = _aligned(island, tp, taken)
        key = (aligned is None, len(free))
        if best is None or key < best[0]:
            best = (key, aligned or free[:tp])
    return best[1] if best else None


def _aligned(island: tuple[int, ...], tp: int, taken: Collection[int]) -> tuple[int, ...] | None:
    groups = (island[start : start + tp] for start in range(0, len(island) - tp + 1, tp))
    return next((group for group in groups if not any(gpu in taken for gpu in group)), None)


def _placement(llm: str, size: Size, placed: list[Replica]) -> Placement:
    replicas = sorted(replica.gpus for replica in placed if replica.llm == llm)
    return Placement(llm, size.tp, size.dp, tuple(gpu for gpus in replicas for gpu in gpus))
