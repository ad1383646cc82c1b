"""What a run works on: the requests, the engines that can be made, and for simulated engines the true lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from samullm_tui.domain.application import LLM
from samullm_tui.domain.errors import PlanError, Problem
from samullm_tui.domain.plan import Forecast, Plan, Replica
from samullm_tui.domain.request import IntArray
from samullm_tui.engines.protocol import Engine, GenerateRequest
from samullm_tui.forecast.engine_setup import precision_for
from samullm_tui.forecast.problem import ForecastInputs, build_problem, read_workload, shape_of_llm
from samullm_tui.latency.memory import kv_bytes_per_gpu_token, stored_weight_bytes
from samullm_tui.lengths.draw import draw
from samullm_tui.planner.validity import valid
from samullm_tui.simulate.dealing import Rates, rates_of
from samullm_tui.simulate.problem import Problem as Simulated
from samullm_tui.supervisor.fleet import MakeEngine
from samullm_tui.supervisor.sampling import Footprint
from samullm_tui.supervisor.spec import RunPaths, RunSpec
from samullm_tui.workload.requests import Workload

__all__ = [
    "Job",
    "as_planned",
    "check_given_forecast",
    "check_given_plan",
    "load_job",
    "rates_to_expect",
    "true_lengths",
    "workload_of",
]

TRUTH = 1 << 31
"""Planning draws from the first streams of a run's seed. What really happens in a simulated run is drawn from this
one, far behind them: otherwise a plan would be judged on the lengths that it was made for."""


@dataclass(frozen=True)
class Job:
    """Everything that a run's spec comes down to.

    inputs  what it was planned with
    rates   what the work of a replica takes
    """

    workload: Workload
    inputs: ForecastInputs
    make_engine: MakeEngine
    make_request: Callable[[int, int, int, Callable[[int], str]], GenerateRequest]
    footprint: Callable[[Replica], Footprint | None]
    rates: Callable[[Replica], Rates]


def workload_of(spec: RunSpec) -> Workload:
    """The requests of the run's application. Raises ApplicationError."""
    return read_workload(Path(spec.application), allow_outside=spec.allow_outside)


def check_given_plan(inputs: ForecastInputs, plan: Plan) -> None:
    """Raises PlanError when the plan that the operator gave cannot run here."""
    wrong = valid(inputs.problem, plan)
    if wrong:
        raise PlanError([Problem("the plan given", "", what, "plan again") for what in wrong])


def check_given_forecast(spec: RunSpec, forecast: Forecast, workload: Workload) -> None:
    """Raises PlanError when the forecast that the operator chose from is not of this application, data and cluster."""
    wrong = ""
    if forecast.application_sha256 != workload.application.sha256:
        wrong = "has changed since it was planned"
    elif forecast.requests != workload.requests:
        wrong = "its data have changed since it was planned"
    elif forecast.cluster != spec.cluster.name:
        wrong = f"was planned for {forecast.cluster}, not for {spec.cluster.name}"
    elif spec.rank not in {candidate.rank for candidate in forecast.candidates}:
        wrong = f"there is no plan {spec.rank} in its forecast"
    if wrong:
        raise PlanError(Problem(spec.application, "", wrong, "plan again"))


def load_job(spec: RunSpec, paths: RunPaths, epoch: int) -> Job:
    """Reads everything anew. Raises InputError."""
    workload = workload_of(spec)
    inputs = build_problem(workload, spec.cluster)
    simulated = spec.engine == "simulated"
    make = _make_simulated(inputs) if simulated else _make_vllm(spec, paths, inputs, workload, epoch)
    truth = true_lengths(inputs, spec.seed) if simulated else None
    return Job(
        workload=workload,
        inputs=inputs,
        make_engine=make,
        make_request=_RequestMaker(workload, inputs, truth),
        footprint=_footprints(spec, inputs, workload),
        rates=rates_to_expect(inputs.problem),
    )


def true_lengths(inputs: ForecastInputs, seed: int) -> IntArray:
    """[n] the output tokens that the requests of a simulated run turn out to have."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(TRUTH,)))
    return draw(inputs.problem.table, inputs.dists, inputs.context, rng)


def rates_to_expect(problem: Simulated) -> Callable[[Replica], Rates]:
    """By the lengths to expect, over all requests of an LLM."""

    def rates(replica: Replica) -> Rates:
        llm = problem.index(replica.llm)
        mine = problem.table.llm == llm
        prompt, output = problem.expected_prompts[mine].mean(), problem.expected_tokens[mine].mean()
        return rates_of(problem.llms[llm].shape(replica.tp), float(prompt), float(output))

    return rates


class _RequestMaker:
    """Renders prompts for real engines; tells simulated ones the true length and the shared prefix instead."""

    def __init__(self, workload: Workload, inputs: ForecastInputs, truth: IntArray | None) -> None:
        self._workload = workload
        self._prefix = inputs.problem.prefix
        self._truth = truth

    def __call__(
        self, index: int, key: int, prompt_tokens: int, output_of: Callable[[int], str]
    ) -> GenerateRequest:
        if self._truth is not None:
            return self._simulated(index, key, prompt_tokens, int(self._truth[index]))
        return GenerateRequest(
            key=key,
            prompt=self._workload.prompt(index, output_of),
            chat=self._workload.request_node(index).chat,
            sampling=self._workload.sampling(index),
            prompt_tokens=prompt_tokens,
        )

    def _simulated(self, index: int, key: int, prompt_tokens: int, output_tokens: int) -> GenerateRequest:
        table, prefix = self._workload.table, -1 if self._prefix is None else int(self._prefix[index])
        return GenerateRequest(
            key=key,
            sampling={"max_tokens": int(table.max_tokens[index])},
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            prefix=prefix,
            prefix_tokens=0 if prefix < 0 or table.prefix_tokens is None else int(table.prefix_tokens[index]),
        )


def _make_simulated(inputs: ForecastInputs) -> MakeEngine:
    from samullm_tui.engines.simulated import SimulatedEngine

    models = {model.name: model for model in inputs.problem.llms}

    def make(replica: Replica) -> Engine:
        shape = models[replica.llm].shape(replica.tp)
        return SimulatedEngine(replica, shape.config, shape.latency, shape.load_s)

    return make


def _make_vllm(
    spec: RunSpec, paths: RunPaths, inputs: ForecastInputs, workload: Workload, epoch: int
) -> MakeEngine:
    from samullm_tui.engines.vllm_engine import VllmEngine

    problem = inputs.problem

    def make(replica: Replica) -> Engine:
        return VllmEngine(
            as_planned(workload.application.llm(replica.llm), inputs, replica.tp),
            replica,
            run=paths.run,
            epoch=epoch,
            log=paths.engines / f"{replica.name}.log",
            device="cpu" if spec.cluster.gpu.kind == "cpu" else "gpu",
            max_num_seqs=problem.llms[problem.index(replica.llm)].shape(replica.tp).config.max_num_seqs,
        )

    return make


def as_planned(llm: LLM, inputs: ForecastInputs, tp: int) -> LLM:
    """With the engine arguments that the forecast chose for this tp."""
    seqs = inputs.fewer_at_once.get((llm.name, tp))
    return llm if seqs is None else replace(llm, engine={**llm.engine, "max_num_seqs": seqs})


def _footprints(
    spec: RunSpec, inputs: ForecastInputs, workload: Workload
) -> Callable[[Replica], Footprint | None]:
    """What replicas take of their GPUs' memory, by the same shapes that planning used."""
    models = {model.name: model for model in inputs.problem.llms}
    llms = {name: workload.application.llm(name) for name in models}
    shapes = {name: shape_of_llm(llm, spec.application) for name, llm in llms.items()}
    precisions = {name: precision_for(llm) for name, llm in llms.items()}

    def footprint(replica: Replica) -> Footprint | None:
        shape, config = shapes[replica.llm], models[replica.llm].shape(replica.tp).config
        precision = precisions[replica.llm]
        token_bytes = kv_bytes_per_gpu_token(shape, replica.tp, precision)
        kv_bytes = int(config.kv_blocks * config.block_size * token_bytes)
        return Footprint(int(stored_weight_bytes(shape, precision) / replica.tp), kv_bytes)

    return footprint
