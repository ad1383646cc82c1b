"""What `profile` is asked to measure, checked before an engine is started: which checkpoint, where, on which GPUs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from msgspec import Struct

from samullm_tui.catalog.shapes import shape_of
from samullm_tui.cli.output import say
from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import InputError, PlacementError, Problem
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.hub_cache import local_snapshot
from samullm_tui.engines.tiny import FAMILIES, TINY
from samullm_tui.forecast.checkpoint import read_shape
from samullm_tui.latency.shape import Shape
from samullm_tui.supervisor.machine import choose_machine
from samullm_tui.telemetry.gpu import detect_cluster

__all__ = ["NAME", "Subject", "subject_of"]

NAME = "profiled"


class Subject(Struct, frozen=True):
    """`checkpoint` is what applications call it, `place` what an engine loads; all `replicas` run at the same time."""

    checkpoint: str
    place: str
    shape: Shape
    cluster: Cluster
    replicas: tuple[Replica, ...]


def subject_of(arguments: Namespace) -> Subject:
    """Raises InputError: no such checkpoint here, a context it does not have, a cluster that is not this machine, a
    tp that is not possible.
    """
    checkpoint, place, shape = _checkpoint(arguments.checkpoint)
    if arguments.context and arguments.context > shape.context:
        wrong = f"{arguments.context} is more than the {shape.context} tokens of the checkpoint"
        raise InputError(Problem(checkpoint, "--context", wrong, f"{shape.context}, or less"))
    cluster = _cluster(arguments.cluster)
    replicas = _replicas(shape, cluster, arguments.tp, arguments.beside)
    return Subject(checkpoint, place, shape, cluster, replicas)


def _checkpoint(name: str | None) -> tuple[str, str, Shape]:
    if not name:
        right = (
            "tiny:llama, a checkpoint's folder, or a Hugging Face id that is on this machine; or --hardware"
        )
        raise InputError(Problem("", "CHECKPOINT", "nothing to profile", right))
    if name.startswith(TINY):
        shape = shape_of(name) if name.removeprefix(TINY) in FAMILIES else None
        if shape is None:
            right = f"one of {', '.join(TINY + family for family in FAMILIES)}"
            raise InputError(Problem(name, "", "there is no such tiny checkpoint", right))
        return name, name, shape
    folder = Path(name).expanduser()
    if folder.is_dir():
        place = str(folder.resolve())
        return place, place, read_shape(Path(place))
    snapshot = local_snapshot(name)
    if snapshot is None:
        wrong = "there is no such folder, and no such Hugging Face id on this machine"
        raise InputError(Problem(name, "", wrong, "download it first: nothing is downloaded here"))
    return name, str(snapshot), shape_of(name) or read_shape(snapshot)


def _cluster(name: str | None) -> Cluster:
    """What is measured must be this machine."""
    machine = choose_machine(name, "vllm")
    for note in machine.notes:
        say(note)
    cluster = machine.cluster
    here = detect_cluster()
    if cluster.gpu.kind == "gpu" and (
        here is None or here.gpu.name != cluster.gpu.name or here.gpus < cluster.gpus
    ):
        has = f"this machine has {here.title}" if here else "this machine has no GPU"
        right = "leave --cluster out, or give cpu:2 for the CPU build of vLLM"
        raise InputError(Problem("", "--cluster", f"{cluster.title} cannot be measured: {has}", right))
    return cluster


def _replicas(shape: Shape, cluster: Cluster, tp: int, beside: int | None) -> tuple[Replica, ...]:
    """The engines that run at once, each on GPUs of one island.

    The slots of a CPU share its memory and caches: one more engine works beside the first, unless told otherwise.
    """
    island = max(map(len, cluster.islands))
    if tp & (tp - 1) or tp > island or shape.heads % tp:
        right = f"a power of two up to {island} that divides its {shape.heads} heads"
        raise PlacementError(Problem("", "--tp", f"no tp of {tp} is possible on {cluster.title}", right))
    places = [gpus[k : k + tp] for gpus in cluster.islands for k in range(0, len(gpus) - tp + 1, tp)]
    if beside is None:
        beside = 1 if cluster.gpu.kind == "cpu" and len(places) > 1 else 0
    if beside >= len(places):
        wrong = f"{beside} more engines of tp {tp} have no room on {cluster.title}"
        raise PlacementError(Problem("", "--beside", wrong, f"from 0 to {len(places) - 1}"))
    return tuple(Replica(NAME, gpus) for gpus in places[: 1 + beside])
