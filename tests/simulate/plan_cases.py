"""Small applications and plans for them."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st
from msgspec import structs
from schedule_cases import EXACT

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.domain.request import RequestTable
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel
from samullm_tui.simulate.config import EngineConfig

NAMES = ("A", "B", "C")
GPUS = 4


def make_table(
    llm: list[int],
    prompt: list[int],
    parents: list[list[int]] | None = None,
    *,
    group: list[int] | None = None,
    fed: int | list[int] = 1,
    names: tuple[str, ...] = NAMES,
) -> RequestTable:
    n = len(llm)
    parents = parents or [[] for _ in llm]
    flat = np.array([p for each in parents for p in each], np.int64)
    start = np.concatenate([[0], np.cumsum([len(each) for each in parents])]).astype(np.int64)
    return RequestTable(
        ids=[str(i) for i in range(n)],
        records=[str(i) for i in range(n)],
        llm_names=names,
        node_names=names,
        llm=np.array(llm, np.int64),
        node=np.array(llm, np.int64),
        prompt_tokens=np.array(prompt, np.int64),
        max_tokens=np.full(n, 4096, np.int64),
        known_tokens=np.full(n, -1, np.int64),
        group=np.array(group if group is not None else [-1] * n, np.int64),
        parent_start=start,
        parents=flat,
        fed=np.broadcast_to(np.array(fed, np.int64), flat.shape).copy(),
    )


def make_problem(table: RequestTable, *, tight: bool = False, seqs: int = 4, load_s: float = 2.0) -> Problem:
    """tp 2 has twice the cache of tp 1, loads longer and steps faster. A tight cache holds one request and a bit."""
    fast = type(EXACT)(tuple(c / 2 for c in EXACT.coefficients))
    blocks, context = (17, 60) if tight else (200, 120)
    shapes = (
        ShapeModel(1, EXACT, load_s, EngineConfig(seqs, 16, blocks, 4, context)),
        ShapeModel(2, fast, load_s * 1.5, EngineConfig(seqs, 24, 2 * blocks, 4, context)),
    )
    llms = tuple(LLMModel(name, shapes, 1e9) for name in table.llm_names)
    return Problem(table, llms, GPUS, ((0, 1), (2, 3)))


def one_each(*names: str, until: tuple[str, ...] | None = None) -> Stage:
    """Each LLM on one GPU of its own, at tp 1."""
    placements = tuple(Placement(name, 1, 1, (gpu,)) for gpu, name in enumerate(names))
    return Stage(placements, until or names)


@st.composite
def draw_application(draw: st.DrawFn) -> tuple[Problem, list[int]]:
    """Requests whose parents are earlier ones on any LLM: chains, fans and cycles between LLMs."""
    n = draw(st.integers(1, 24))
    llm = [draw(st.integers(0, len(NAMES) - 1)) for _ in range(n)]
    few = st.sampled_from([0, 0, 1, 1, 2])
    parents = [
        draw(st.lists(st.integers(0, i - 1), max_size=draw(few), unique=True)) if i else [] for i in range(n)
    ]
    group = [draw(st.sampled_from([-1, -1, 0, 1])) for _ in range(n)]
    prompt = [draw(st.integers(1, 20)) for _ in range(n)]
    output = [draw(st.integers(1, 25)) for _ in range(n)]
    fed = [draw(st.integers(0, 1)) for each in parents for _ in each]
    table = make_table(llm, prompt, parents, group=group, fed=fed)
    seqs = draw(st.integers(1, 4))
    return make_problem(
        table, tight=draw(st.booleans()), seqs=seqs, load_s=draw(st.sampled_from([0.0, 2.0]))
    ), output


@st.composite
def draw_cycles(draw: st.DrawFn) -> tuple[Problem, list[int]]:
    """Several records that all go the same way through the LLMs, back and forth, next to requests on their own."""
    way = draw(st.lists(st.integers(0, 2), min_size=2, max_size=4))
    llm, parents = [], []
    for _ in range(draw(st.integers(2, 7))):
        for place, model in enumerate(way):
            parents.append([len(llm) - 1] if place else [])
            llm.append(model)
    alone = draw(st.integers(0, 6))
    llm += [draw(st.integers(0, 2)) for _ in range(alone)]
    parents += [[]] * alone
    prompt = [draw(st.integers(1, 12)) for _ in llm]
    output = [draw(st.integers(1, 25)) for _ in llm]
    problem = make_problem(make_table(llm, prompt, parents), seqs=draw(st.integers(1, 4)), load_s=0.0)
    return problem, output


# Layouts that share replicas, so that going from one to another keeps some, adds some and stops some.
LAYOUTS = (
    (Placement("A", 1, 1, (0,)), Placement("B", 1, 1, (1,)), Placement("C", 1, 1, (2,))),
    (Placement("A", 1, 2, (0, 3)), Placement("B", 1, 1, (1,)), Placement("C", 1, 1, (2,))),
    (Placement("A", 1, 1, (0,)), Placement("B", 1, 2, (1, 3)), Placement("C", 1, 1, (2,))),
    (Placement("A", 2, 1, (0, 1)), Placement("B", 1, 1, (3,)), Placement("C", 1, 1, (2,))),
    (Placement("A", 1, 1, (0,)), Placement("B", 1, 1, (1,)), Placement("C", 2, 1, (2, 3))),
    (Placement("A", 1, 1, (0,)), Placement("B", 1, 3, (1, 2, 3))),
    (Placement("A", 2, 2, (0, 1, 2, 3)),),
)


@st.composite
def draw_stage(draw: st.DrawFn) -> Stage:
    layout = draw(st.sampled_from(LAYOUTS))
    names = [placement.llm for placement in layout]
    return Stage(layout, tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))))


@st.composite
def draw_plan(draw: st.DrawFn) -> Plan:
    """Some stages, which may or may not be possible, then one that finishes everything."""
    stages = draw(st.lists(draw_stage(), min_size=1, max_size=4))
    return Plan(planner="test", stages=(*stages, Stage(draw(st.sampled_from(LAYOUTS[:5])), ())))


@st.composite
def draw_optional(draw: st.DrawFn) -> tuple[Problem, list[int]]:
    """An application whose engines are asynchronous, cache prefixes or go by priority, as may be."""
    problem, output = draw(st.one_of(draw_application(), draw_cycles()))
    n = len(problem.table)
    changes = {
        "async_scheduling": draw(st.booleans()),
        "prefix_caching": draw(st.booleans()),
        "scheduling_policy": draw(st.sampled_from(["fcfs", "priority"])),
    }
    shapes = tuple(
        structs.replace(s, config=structs.replace(s.config, **changes)) for s in problem.llms[0].shapes
    )
    prompt = problem.table.prompt_tokens
    prefix = np.array([draw(st.integers(-1, 1)) for _ in range(n)]) if draw(st.booleans()) else None
    table = dataclasses.replace(
        problem.table,
        max_tokens=np.array(output) + np.array([draw(st.sampled_from([0, 3])) for _ in range(n)]),
        prefix=None if prefix is None else np.where(prefix < 0, -1, prefix * 3 + problem.table.llm),
        prefix_tokens=None if prefix is None else (prompt - 1) // 4 * 4,
    )
    priority = np.array([draw(st.integers(0, 2)) for _ in range(n)]) if draw(st.booleans()) else None
    llms = tuple(structs.replace(model, shapes=shapes) for model in problem.llms)
    return dataclasses.replace(problem, table=table, llms=llms, priority=priority), output
