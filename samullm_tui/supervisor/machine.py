"""Which cluster and which engines, when the operator did not say: what this machine has, said aloud."""

from __future__ import annotations

from msgspec import Struct

from samullm_tui.domain.cluster import VISIBLE, Cluster, cluster_from_preset
from samullm_tui.domain.event import EngineKind
from samullm_tui.engines.installed import installed_vllm
from samullm_tui.locations import profiles_dir
from samullm_tui.telemetry.gpu import detect_cluster, divided_gpus
from samullm_tui.workload.cluster_file import load_cluster

__all__ = ["Machine", "choose_machine"]

DEFAULT_PRESET = "a100-80g:8"
CPU_PRESET = "cpu:2"


class Machine(Struct, frozen=True):
    """Where a run will happen. `notes` say what was chosen without being asked for, and what cannot be used."""

    cluster: Cluster
    engine: EngineKind
    notes: tuple[str, ...]


def choose_machine(cluster: str | None, engine: EngineKind | None) -> Machine:
    """Fills in what was not given, by the rules of the contract. Raises ClusterError on a bad `cluster`."""
    detected = detect_cluster()
    notes = _skipped_profiles()
    if engine is None:
        here = detected is not None and installed_vllm() is not None
        engine = "vllm" if here and cluster is None else "simulated"
        why = "the cluster is not this machine" if here else "this machine has no GPU with vLLM"
        notes.append("engine: vllm" if engine == "vllm" else f"engine: simulated, because {why}")
    if cluster is not None:
        return Machine(load_cluster(cluster), engine, tuple(notes))
    if detected:
        notes.append(f"cluster: the {detected.title} of this machine")
        notes += _divided()
        return Machine(detected, engine, tuple(notes))
    preset = CPU_PRESET if engine == "vllm" else DEFAULT_PRESET
    notes.append(f"cluster: the preset {preset}, because this machine has no GPU")
    return Machine(cluster_from_preset(preset), engine, tuple(notes))


def _divided() -> list[str]:
    return [
        f"GPU {gpu} is divided into MIG instances: name those in {VISIBLE}, an engine gets no more than one"
        for gpu in divided_gpus()
    ]


def _skipped_profiles() -> list[str]:
    """What forecasts will not use of what was measured on this machine."""
    if not profiles_dir().is_dir():
        return []
    from samullm_tui.forecast.profile_store import read_store

    return [f"stored profile skipped: {problem}" for problem in read_store().problems]
