"""Random small cases that can be planned by trying everything: 2 to 4 LLMs on 2 to 4 GPUs, few requests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from planning_problems import SmallNode, model, problem

from samullm_tui.domain.errors import PlacementError
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Task
from samullm_tui.simulate.application import LLMModel, Problem

__all__ = ["SmallCase", "small_case"]


@dataclass(frozen=True)
class SmallCase:
    problem: Problem
    output_tokens: IntArray


def small_case(seed: int) -> SmallCase:
    """The same case for the same seed. Every planner can plan it."""
    rng = np.random.default_rng(seed)
    while True:
        some = _problem(rng)
        lengths = np.minimum(np.exp(rng.normal(3.5, 1.0, len(some.table))).astype(np.int64) + 1, 250)
        try:
            Task(some, lengths)
        except PlacementError:
            continue
        return SmallCase(some, lengths)


def _problem(rng: np.random.Generator) -> Problem:
    gpus, count = int(rng.choice([2, 3, 4], p=[0.4, 0.3, 0.3])), int(rng.choice([2, 3, 4], p=[0.4, 0.4, 0.2]))
    island = int(rng.choice([1, 2, gpus]))
    models = [_model(rng, f"llm{k}", island) for k in range(count)]
    nodes = [_node(rng, number, models) for number in range(count)]
    nodes += [_node(rng, number, models) for number in range(count, count + int(rng.integers(0, 3)))]
    return problem(models, nodes, gpus=gpus, island=island)


def _model(rng: np.random.Generator, name: str, island: int) -> LLMModel:
    tps = [(1,), (1, 2), (2,)][int(rng.choice(3, p=[0.4, 0.4, 0.2]))] if island >= 2 else (1,)
    return model(
        name,
        tps=tps,
        load_s=float(rng.choice([0.5, 2.0, 5.0, 10.0])),
        scale=float(rng.choice([0.5, 1.0, 2.0])),
        experts=int(rng.choice([0, 0, 8])),
        kv_blocks=int(rng.choice([40, 100, 200])),
        max_num_seqs=int(rng.choice([2, 4, 16])),
    )


def _node(rng: np.random.Generator, number: int, models: list[LLMModel]) -> SmallNode:
    """The first nodes use one LLM each; a later node may use any and takes outputs of up to two nodes before it."""
    llm = models[number if number < len(models) else int(rng.integers(len(models)))].name
    fed = number > 0 and rng.random() < 0.5
    sources = (
        rng.choice(number, size=min(number, int(rng.integers(1, 3))), replace=False).tolist() if fed else []
    )
    requests = int(np.exp(rng.uniform(0.0, np.log(16))))
    return SmallNode(
        llm, requests, int(rng.integers(5, 80)), tuple(sorted(sources)), bool(rng.random() < 0.25)
    )
