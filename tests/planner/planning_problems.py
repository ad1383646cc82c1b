"""Small planning problems: a few LLMs, few requests, few GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from msgspec import structs

from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel
from samullm_tui.simulate.config import EngineConfig

UNCAPPED = 2**31 - 1


@dataclass(frozen=True)
class SmallNode:
    """`requests` uses of `llm`; each takes the outputs of the requests of the same number of `sources`.

    With `chain` each also takes the output of the one before.
    """

    llm: str
    requests: int = 4
    prompt_tokens: int = 20
    sources: tuple[int, ...] = ()
    chain: bool = False


def latency(scale: float = 1.0, experts: int = 0) -> IterationLatency:
    values = dict.fromkeys(COEFFICIENTS, 0.0)
    values |= {
        "constant_s": 0.02 * scale,
        "per_sequence_s": 1e-4,
        "per_token_s": 2e-5 * scale,
        "per_token_above_64_s": 1e-5 * scale,
        "per_token_above_256_s": 4e-5 * scale,
        "per_prefill_context_s": 1e-9,
        "per_decode_context_s": 3e-7 * scale,
        "per_distinct_expert_s": 1e-3 * scale if experts else 0.0,
    }
    return IterationLatency(tuple(values.values()), experts, min(2, experts))


def model(
    name: str,
    *,
    tps: Sequence[int] = (1, 2),
    load_s: float = 10.0,
    scale: float = 1.0,
    experts: int = 0,
    kv_blocks: int = 200,
    max_num_seqs: int = 16,
    max_model_len: int = 512,
) -> LLMModel:
    """Twice the GPUs take 0.6 of the time a step and half as long again to load."""
    config = EngineConfig(max_num_seqs, 128, kv_blocks, 16, max_model_len)
    shapes = tuple(
        ShapeModel(tp, latency(scale * 0.6**k, experts), load_s * 1.5**k, config) for k, tp in enumerate(tps)
    )
    return LLMModel(name, shapes, 2e9 * scale)


def table(names: Sequence[str], nodes: Sequence[SmallNode]) -> RequestTable:
    columns: dict[str, list[int]] = {key: [] for key in ("llm", "node", "prompt", "group", "parents")}
    ids, start, firsts = [], [0], []
    for number, node in enumerate(nodes):
        firsts.append(len(ids))
        for k in range(node.requests):
            parents = [firsts[s] + k for s in node.sources if k < nodes[s].requests]
            if node.chain and k:
                parents.append(len(ids) - 1)
            columns["parents"] += parents
            start.append(len(columns["parents"]))
            ids.append(f"{number}/{k}")
            columns["llm"].append(names.index(node.llm))
            columns["node"].append(number)
            columns["prompt"].append(node.prompt_tokens + k)
            columns["group"].append(number if node.chain else -1)
    arrays = {key: np.array(values, dtype=np.int64) for key, values in columns.items()}
    n = len(ids)
    return RequestTable(
        ids=ids,
        records=ids,
        llm_names=tuple(names),
        node_names=tuple(f"node{k}" for k in range(len(nodes))),
        llm=arrays["llm"],
        node=arrays["node"],
        prompt_tokens=arrays["prompt"],
        max_tokens=np.full(n, UNCAPPED),
        known_tokens=np.full(n, -1),
        group=arrays["group"],
        parent_start=np.array(start, dtype=np.int64),
        parents=arrays["parents"],
        fed=np.ones(len(arrays["parents"]), dtype=np.int64),
    )


def islands(gpus: int, size: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(k, min(k + size, gpus))) for k in range(0, gpus, size))


def problem(
    llms: Sequence[LLMModel], nodes: Sequence[SmallNode], *, gpus: int = 4, island: int = 2
) -> Problem:
    return Problem(table([llm.name for llm in llms], nodes), tuple(llms), gpus, islands(gpus, island))


def drawn(some: Problem, seed: int = 0, most: int = 60) -> IntArray:
    """One output length for each request."""
    return np.random.default_rng(seed).integers(1, most + 1, len(some.table))


def ensemble(llms: int = 3, requests: int = 30, gpus: int = 4) -> Problem:
    """Different LLMs on the same prompts."""
    models = [model(f"llm{k}", scale=1 + k, load_s=5.0 + k) for k in range(llms)]
    return problem(models, [SmallNode(m.name, requests) for m in models], gpus=gpus)


def summary() -> Problem:
    """A chain that feeds a judge, as in chain summary."""
    models = [model("writer"), model("judge", scale=3, tps=(2,))]
    chains = [SmallNode("writer", 5, chain=True) for _ in range(6)]
    judges = [SmallNode("judge", 5, sources=(k,)) for k in range(6)]
    return problem(models, [*chains, *judges], gpus=4)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Two to four LLMs, up to six nodes in any acyclic order (LLMs may feed each other in a circle), 2 to 4 GPUs."""
    gpus = draw(st.integers(2, 4))
    island = draw(st.sampled_from([1, 2, 4]))
    count = draw(st.integers(2, min(4, gpus)))  # LLMs in one circle must fit together
    models = [
        model(
            f"llm{k}",
            tps=(1, 2) if min(island, gpus) >= 2 and draw(st.booleans()) else (1,),
            load_s=draw(st.sampled_from([0.0, 0.5, 8.0])),
            scale=draw(st.sampled_from([0.3, 1.0, 4.0])),
            experts=draw(st.sampled_from([0, 8])),
            kv_blocks=draw(st.sampled_from([33, 40, 200])),
            max_num_seqs=draw(st.sampled_from([1, 3, 16])),
        )
        for k in range(count)
    ]
    nodes: list[SmallNode] = []
    for number in range(draw(st.integers(1, 6))):
        sources = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        llm = draw(st.sampled_from([m.name for m in models]))
        node = SmallNode(
            llm,
            draw(st.integers(1, 8)),
            draw(st.integers(1, 90)),
            tuple(sorted(sources)),
            draw(st.booleans()),
        )
        nodes.append(node)
    return problem(models, nodes, gpus=gpus, island=island)


@st.composite
def problems_with_options(draw: st.DrawFn) -> Problem:
    """`problems` on engines that are asynchronous, cache prefixes or go by priority, as may be; some of them short of
    memory, and with steps of which the context is most.
    """
    some = draw(problems())
    changes = {
        "async_scheduling": draw(st.booleans()),
        "prefix_caching": draw(st.sampled_from([True, True, False])),
        "scheduling_policy": draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
    }
    names = ("constant_s", "per_sequence_s", "per_token_s", "per_prefill_context_s", "per_decode_context_s")
    heavy = dict(zip(names, (1e-4, 1e-6, 1e-3, draw(st.sampled_from([0.0, 1e-6])), 1e-3), strict=True))
    of_context = IterationLatency(tuple(heavy.get(name, 0.0) for name in COEFFICIENTS), 0, 0)
    is_heavy = draw(st.booleans())
    llms = []
    for llm in some.llms:
        shapes = tuple(
            structs.replace(
                shape,
                config=structs.replace(shape.config, **changes),
                latency=of_context if is_heavy else shape.latency,
            )
            for shape in llm.shapes
        )
        llms.append(structs.replace(llm, shapes=shapes))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = len(some.table)
    prefix = np.where(rng.random(n) < draw(st.sampled_from([0.0, 0.5, 0.9])), rng.integers(0, 2, n), -1)
    prefix = np.where(prefix < 0, -1, prefix + 2 * some.table.llm)
    tokens = rng.choice([16, 40, 70, 2**31 - 1], n)
    table = replace(
        some.table,
        max_tokens=np.where(rng.random(n) < 0.5, UNCAPPED, 60),
        prefix=prefix,
        prefix_tokens=np.where(prefix < 0, 0, tokens),
    )
    priority = rng.integers(0, 3, n) if draw(st.booleans()) else None
    return replace(some, table=table, llms=tuple(llms), priority=priority)
