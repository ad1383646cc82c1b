"""Application and cluster to a planning problem: which LLM can run how, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

from samullm_tui.catalog.shapes import shape_of
from samullm_tui.domain import errors
from samullm_tui.domain.application import LLM, Application
from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.pin import Pin
from samullm_tui.domain.request import IntArray, RequestTable
from samullm_tui.forecast.checkpoint import read_shape
from samullm_tui.forecast.engine_setup import does_not_fit, engine_config
from samullm_tui.forecast.lengths import lengths_of
from samullm_tui.forecast.profile_store import profile_for
from samullm_tui.forecast.size import check_size
from samullm_tui.latency.roofline import Shape, flops_per_token, load_estimate_s
from samullm_tui.lengths.distribution import LengthDistribution
from samullm_tui.lengths.draw import draw, expected
from samullm_tui.planner.at_once import with_fitting_sequences
from samullm_tui.planner.pins import check_pins
from samullm_tui.simulate.application import LLMModel, Problem, ShapeModel
from samullm_tui.workload.application_file import draft_application
from samullm_tui.workload.check import check_application
from samullm_tui.workload.requests import Workload

__all__ = ["ForecastInputs", "build_problem", "read_workload", "shape_of_llm"]

ENGINE = "vllm 0.32"
"""The engine whose schedule and defaults forecasts assume."""
SETTINGS = 0
"""The seed of the lengths by which engines are set up: always the same, as a run must set them up as its forecast did."""


@dataclass(frozen=True)
class ForecastInputs:
    """What planning needs.

    context    [LLMs] most tokens of a request, prompt and output together
    estimated  LLMs whose latency or lengths nobody measured: what stands in for them, in words
    notes      what else a reader of the forecast should know
    fewer_at_once  by (LLM, tp): its engines' `max_num_seqs`, where they are to run fewer requests than they would
    """

    problem: Problem
    dists: Mapping[str, LengthDistribution]
    context: IntArray
    estimated: dict[str, str]
    notes: tuple[str, ...] = ()
    fewer_at_once: Mapping[tuple[str, int], int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Served:
    """One LLM at every tp that fits."""

    model: LLMModel
    context: int
    estimated: str
    engine: str


def build_problem(
    workload: Workload,
    cluster: Cluster,
    pins: Mapping[str, Pin] | None = None,
    *,
    checked: bool = True,
) -> ForecastInputs:
    """Raises ApplicationError for LLMs whose shape is not known, PlacementError for those that fit nowhere, PlanError
    for pins that cannot be kept (not looked at unless `checked`).

    Each names all of them at once.
    """
    application, table = workload.application, workload.table
    llms = {llm.name: llm for llm in application.llms}
    shapes = _shapes([llms[name] for name in table.llm_names], application.file)
    served: dict[str, _Served] = {}
    wrong: list[errors.Problem] = []
    for name in table.llm_names:
        try:
            served[name] = _serve(llms[name], shapes[name], cluster)
        except errors.PlacementError as error:
            wrong += error.problems
    if wrong:
        raise errors.PlacementError(wrong)
    lengths = {name: lengths_of(llms[name]) for name in table.llm_names}
    estimated = {}
    for name, one in served.items():
        drawn = lengths[name].estimated if _draws(table, name) else ""
        if one.estimated or drawn:
            estimated[name] = "; ".join(filter(None, (one.estimated, drawn)))
    models = tuple(served[name].model for name in table.llm_names)
    dists = {name: one.distribution for name, one in lengths.items()}
    context = np.array([served[name].context for name in table.llm_names], dtype=np.int64)
    guess = expected(table, dists, context)
    problem = Problem(table, models, cluster.gpus, cluster.islands, pins or {}, expected=guess)
    problem, fewer = _set_up(
        problem, application, draw(table, dists, context, np.random.default_rng(SETTINGS))
    )
    if checked:
        check_pins(problem)
    return ForecastInputs(
        problem=problem,
        dists=dists,
        context=context,
        estimated=estimated,
        notes=(*_other_engines(served), *_fewer_said(fewer)),
        fewer_at_once=fewer,
    )


def _set_up(
    problem: Problem, application: Application, lengths: IntArray
) -> tuple[Problem, dict[tuple[str, int], int]]:
    """With the `max_num_seqs` that these lengths are served best with, where the application gives none; and which
    were lowered.
    """
    given = {llm.name for llm in application.llms if "max_num_seqs" in llm.engine}
    models = with_fitting_sequences(problem, lengths, given)
    fewer = {
        (after.name, shape.tp): shape.config.max_num_seqs
        for before, after in zip(problem.llms, models, strict=True)
        for shape in after.shapes
        if shape != before.shape(shape.tp)
    }
    return replace(problem, llms=models), fewer


def _fewer_said(fewer: Mapping[tuple[str, int], int]) -> tuple[str, ...]:
    if not fewer:
        return ()
    each = ", ".join(f"{llm} {seqs} at tp {tp}" for (llm, tp), seqs in fewer.items())
    return (f"engines run fewer requests at a time (max_num_seqs), as more outgrow the KV cache: {each}",)


def _other_engines(served: Mapping[str, _Served]) -> tuple[str, ...]:
    """Which LLMs were measured on an engine of another version than forecasts assume."""
    engines = {one.engine for one in served.values() if one.engine and ENGINE not in one.engine}
    return tuple(
        f"latency measured on {engine}, not on {ENGINE}: "
        + ", ".join(name for name, one in served.items() if one.engine == engine)
        for engine in sorted(engines)
    )


def _draws(table: RequestTable, llm: str) -> bool:
    """Whether any length of this LLM is drawn instead of known."""
    mine = table.llm == table.llm_names.index(llm)
    return bool((table.known_tokens[mine] < 0).any())


def _shapes(llms: list[LLM], file: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    wrong: list[errors.Problem] = []
    for llm in llms:
        try:
            shapes[llm.name] = shape_of_llm(llm, file)
        except errors.ApplicationError as error:
            wrong += error.problems
    if wrong:
        raise errors.ApplicationError(wrong)
    return shapes


def read_workload(path: Path, *, allow_outside: bool = False) -> Workload:
    """The application in `path` with all its requests. Raises ApplicationError with everything that is wrong, and
    when there are more requests than this machine has memory for.
    """
    draft = draft_application(path, allow_outside=allow_outside)
    if draft.application is not None:
        check_size(draft.application, psutil.virtual_memory().available)
    return check_application(path, allow_outside=allow_outside, contexts=_contexts_of)


def _contexts_of(application: Application) -> dict[str, int]:
    """The context of each LLM whose shape is known."""
    known = {llm.name: shape_of(llm.checkpoint) for llm in application.llms}
    return {name: shape.context for name, shape in known.items() if shape is not None}


def shape_of_llm(llm: LLM, file: str) -> Shape:
    """From the catalog, else from the checkpoint's folder. Raises ApplicationError, with `file` as the place."""
    if llm.checkpoint.startswith("/"):
        return read_shape(Path(llm.checkpoint))
    shape = shape_of(llm.checkpoint)
    if shape is None:
        wrong = f"the shape of {llm.checkpoint!r} is not known"
        right = "give the checkpoint's folder (its config.json says it), or one that the catalog knows"
        raise errors.ApplicationError(errors.Problem(file, f"llms.{llm.name}.checkpoint", wrong, right))
    return shape


def _serve(llm: LLM, shape: Shape, cluster: Cluster) -> _Served:
    """Raises PlacementError, with the GiB that are missing."""
    context = min(llm.context or shape.context, shape.context)
    profiles = [(tp, profile_for(llm, shape, cluster.gpu, tp)) for tp in _tensor_sizes(llm, shape, cluster)]
    models = []
    for tp, profile in profiles:
        config = engine_config(llm, shape, profile, cluster, context) if profile else None
        if profile and config:
            load_s = profile.load_s
            load_s = load_estimate_s(shape, cluster.gpu, tp) if load_s is None else load_s
            models.append(ShapeModel(tp, profile.iteration, load_s, config))
    if not models:
        raise errors.PlacementError(does_not_fit(llm, shape, cluster, [tp for tp, _ in profiles], context))
    fitting = {model.tp for model in models}
    guesses = [p.source for tp, p in profiles if p and p.estimate and tp in fitting]
    how = f"latency: {guesses[0]}" if guesses else ""
    measured = [p.engine for tp, p in profiles if p and not p.estimate and tp in fitting]
    model = LLMModel(llm.name, tuple(models), flops_per_token(shape))
    return _Served(model, context, how, measured[0] if measured else "")


def _tensor_sizes(llm: LLM, shape: Shape, cluster: Cluster) -> list[int]:
    """Powers of two that divide the heads and stay inside an island, or those of them that the LLM allows."""
    island = max(map(len, cluster.islands))
    sizes = [2**k for k in range(island.bit_length()) if shape.heads % 2**k == 0]
    return [tp for tp in sizes if not llm.tp or tp in llm.tp]
