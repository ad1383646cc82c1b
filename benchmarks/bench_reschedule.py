"""Simulated runs whose true lengths and speeds differ from what was planned with: the plan kept, against rescheduling.

`python -m benchmarks.bench_reschedule --runs 500 --workers 2`. The runner, its rescheduler and the engines are the product's, on
simulated engines in virtual time; all makespans are simulated. The plan is what the search finds for lengths and speeds as
believed; the clairvoyant one is the best of that plan and of what the search finds for the true ones, both run. The
*regret* is the time of a run beyond the clairvoyant's; what rescheduling takes away of the plan's is recovered.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from msgspec import json, structs

from benchmarks.scaled import scaled
from benchmarks.simulated_runs import Case, Run, engine_stats, run_case
from benchmarks.table import print_table
from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.event import Decided, Replanned
from samullm_tui.domain.plan import Plan
from samullm_tui.forecast.problem import ForecastInputs, build_problem
from samullm_tui.lengths.distribution import LengthDistribution, from_pmf, from_samples
from samullm_tui.lengths.draw import draw, expected
from samullm_tui.planner.reschedule import Margin, Situation, Verdict, reconsider
from samullm_tui.planner.search import search
from samullm_tui.simulate.application import simulate_plan
from samullm_tui.simulate.problem import LLMModel
from samullm_tui.supervisor.belief import situation
from samullm_tui.supervisor.reschedule import Rescheduler
from samullm_tui.supervisor.reschedule_past import Past
from samullm_tui.supervisor.reschedule_thinker import ThinkingHere

SHIPPED = {
    "ensembling, 450 on 4": ("ensembling", 450, "a100-80g:4"),
    "routing, 400 on 8": ("routing", 400, "a100-80g:8"),
}
MADE_UP = ("four LLMs, same prompts", "four LLMs, uneven", "answers judged", "chains judged")
"""Small ones, on 4 GPUs, whose loads are short beside the run."""
APPLICATIONS = (*MADE_UP, *SHIPPED)
KINDS = (
    "as believed",
    "all × one factor",
    "each × its own",
    "heavier tail",
    "another LLM's",
    "speeds ± 20 %",
)
FACTORS = (0.6, 1.8)
TAIL = 0.8
"""Of the logarithm by which each length is multiplied, the mean kept."""
SPEEDS = 0.2
CONTEXT, ROOM = 1600, 16
"""An answer that fills the context leaves the request that it is fed into no room, and ends in an error."""
UNLIKE = 1e-3
SEARCH_REQUESTS = 500_000
EFFORT = 150_000
"""Requests that a decision simulates: a sixth of the product's, so that hundreds of runs end within the hour."""
SAME = 0.02


@dataclass(frozen=True)
class Result:
    """Makespans in seconds; `decisions` and `switches` of the rescheduled run, `wall_s` what it took here."""

    application: str
    kind: str
    seed: int
    static_s: float
    rescheduled_s: float
    clairvoyant_s: float
    decisions: int
    switches: int
    wall_s: float

    @property
    def loss(self) -> float:
        return self.rescheduled_s / self.static_s - 1


class Thinking(ThinkingHere):
    """With a margin to be tried."""

    def __init__(self, margin: Margin) -> None:
        self._margin = margin

    async def reconsider(self, situation: Situation, seed: Sequence[int]) -> Verdict:
        rng = np.random.default_rng(tuple(seed))
        return reconsider(situation, rng, margin=self._margin, requests=EFFORT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, help="a file for one line of JSON for each run")
    for name, value in structs.asdict(Margin()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    given = vars(parser.parse_args())
    margin = Margin(**{name: given[name] for name in Margin.__struct_fields__})
    seeds = range(given["first"], given["first"] + given["runs"])
    started = time.perf_counter()
    with ProcessPoolExecutor(given["workers"]) as pool:
        results = []
        for result in pool.map(_run, seeds, [margin] * len(seeds)):
            results.append(result)
            if given["results"]:
                with given["results"].open("ab") as file:
                    file.write(json.encode(vars(result)) + b"\n")
    seconds = time.perf_counter() - started
    print_tables(results, f"{len(results)} simulated runs in {seconds:.0f} s, {margin}")


def print_tables(results: Sequence[Result], title: str) -> None:
    header = ("", "runs", "plan kept", "rescheduled", "clairvoyant", "regret", "left", "recovered")
    header += ("worse > 2 %", "worst", "best", "decisions", "switches")
    kinds = [(kind, [r for r in results if r.kind == kind]) for kind in KINDS]
    apps = [(name, [r for r in results if r.application == name]) for name in APPLICATIONS]
    groups = [*kinds, *apps, ("all", list(results))]
    print_table(title, header, [_row(name, some) for name, some in groups if some])
    worst = sorted(results, key=lambda r: -r.loss)[:5]
    print("worst:", *(f"seed {r.seed} ({r.application}, {r.kind}) {r.loss:+.1%};" for r in worst))


def _row(name: str, results: Sequence[Result]) -> tuple[str, ...]:
    static, rescheduled, clairvoyant = (
        np.array([getattr(r, f"{which}_s") for r in results])
        for which in ("static", "rescheduled", "clairvoyant")
    )
    regret, left = (float(np.mean(ends / clairvoyant - 1)) for ends in (static, rescheduled))
    losses = np.array([r.loss for r in results])
    return (
        name,
        f"{len(results)}",
        *(f"{ends.mean():.0f} s" for ends in (static, rescheduled, clairvoyant)),
        f"{regret:.1%}",
        f"{left:.1%}",
        f"{1 - left / regret:.0%}" if regret > 1e-4 else "–",
        f"{np.mean(losses > SAME):.1%}",
        f"{losses.max():+.1%}",
        f"{losses.min():+.1%}",
        f"{np.mean([r.decisions for r in results]):.1f}",
        f"{np.mean([r.switches for r in results]):.2f}",
    )


def _run(seed: int, margin: Margin) -> Result:
    number = seed % len(APPLICATIONS)
    kind = KINDS[(seed // len(APPLICATIONS)) % len(KINDS)]
    inputs, plan = _planned(number)
    rng = np.random.default_rng([seed, 2])
    table = inputs.problem.table
    most = inputs.context[table.llm] - table.prompt_tokens - ROOM
    drawn = draw(table, _true_lengths(inputs, kind, rng), inputs.context, rng)
    lengths = np.maximum(1, np.minimum(drawn, most))
    llms = _true_models(inputs.problem.llms, rng) if kind == "speeds ± 20 %" else inputs.problem.llms
    case = Case(inputs.problem, inputs.dists, inputs.context, lengths, llms, UNLIKE)
    static_s = run_case(case, plan, _sample)
    started = time.perf_counter()
    runs: list[Run] = []
    rescheduled_s = run_case(
        case, plan, _sample, make_rescheduler=lambda run: _rescheduler(run, inputs, plan, seed, margin, runs)
    )
    wall_s = time.perf_counter() - started
    true = inputs.problem.with_llms(llms)
    best = search(true, lengths, np.random.default_rng(seed), requests=SEARCH_REQUESTS)
    clairvoyant_s = min(static_s, run_case(case, best, _sample))
    events = runs[0].events
    return Result(
        application=APPLICATIONS[number],
        kind=kind,
        seed=seed,
        static_s=static_s,
        rescheduled_s=rescheduled_s,
        clairvoyant_s=clairvoyant_s,
        decisions=sum(isinstance(e, Decided) and e.decision.number > 0 for e in events),
        switches=sum(isinstance(e, Replanned) for e in events),
        wall_s=wall_s,
    )


@lru_cache
def _planned(number: int) -> tuple[ForecastInputs, Plan]:
    """What is believed of an application, and the plan for it."""
    name = APPLICATIONS[number]
    if name in SHIPPED:
        app, requests, gpus = SHIPPED[name]
        inputs = build_problem(scaled(app, requests), cluster_from_preset(gpus))
    else:
        inputs = _made_up(name)
    rng = np.random.default_rng(number)
    planning, *others = (draw(inputs.problem.table, inputs.dists, inputs.context, rng) for _ in range(3))
    return inputs, search(inputs.problem, planning, rng, others=others, requests=SEARCH_REQUESTS)


def _made_up(name: str) -> ForecastInputs:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "planner"))
    from planning_problems import SmallNode, model, problem

    def llm(name: str, scale: float, load_s: float) -> LLMModel:
        return model(name, scale=scale, load_s=load_s, kv_blocks=900, max_model_len=CONTEXT)

    llms = [llm("a", 3.0, 9.0), llm("b", 2.0, 7.0), llm("c", 1.0, 5.0), llm("d", 0.6, 4.0)]
    made = {
        "four LLMs, same prompts": [SmallNode(one.name, 100) for one in llms] * 4,
        "four LLMs, uneven": [SmallNode(*each) for each in (("a", 60), ("b", 150), ("c", 240), ("d", 100))]
        * 3,
        "answers judged": [
            *(SmallNode(k, 150) for k in "bbbccc"),
            *(SmallNode("a", 150, sources=(k,)) for k in (0, 4)),
        ],
        "chains judged": [
            *(SmallNode("c", 12, chain=True) for _ in range(50)),
            *(SmallNode("a", 6, sources=(k,)) for k in range(50)),
            *(SmallNode("d", 200) for _ in range(4)),
        ],
    }
    used = {node.llm for node in made[name]}
    some = problem([one for one in llms if one.name in used], made[name])
    lengths = np.random.default_rng(0).lognormal(np.log(90), 0.7, 4000).astype(int) + 1
    dists = {
        one.name: from_samples(
            one.name,
            lengths,
            source="benchmark",
        )
        for one in some.llms
    }
    context = np.full(len(some.llms), CONTEXT)
    return ForecastInputs(replace(some, expected=expected(some.table, dists, context)), dists, context, {})


async def _sample(run: Run) -> None:
    """As the product's sampler."""
    for name, stats in (await engine_stats(run)).items():
        run.state.watch.read(run.state.engines[name].replica, stats, run.now_s, run.state.ledger)


def _rescheduler(
    run: Run, inputs: ForecastInputs, plan: Plan, seed: int, margin: Margin, runs: list[Run]
) -> Rescheduler:
    """As the supervisor makes it, but thinking in this process."""
    runs.append(run)
    rng = np.random.default_rng([seed, 3])
    problem = inputs.problem
    lengths = draw(problem.table, inputs.dists, inputs.context, rng)
    return Rescheduler(
        run.state,
        mode="auto",
        wait_s=0.0,
        seed=(seed,),
        past=Past(expected_s=simulate_plan(problem, plan, lengths).makespan_s),
        load_s={(llm.name, shape.tp): shape.load_s for llm in problem.llms for shape in llm.shapes},
        believe=lambda stats, now_s: situation(inputs, run.state, stats, now_s, rng),
        thinker=Thinking(margin),
        recorder=run,
        clock=lambda: run.now_s,
    )


def _true_lengths(
    inputs: ForecastInputs, kind: str, rng: np.random.Generator
) -> dict[str, LengthDistribution]:
    names = list(inputs.dists)
    factors = np.exp(rng.uniform(*np.log(FACTORS), len(names)))
    others = rng.permutation(len(names))
    return {
        name: _true(one, kind, (factors[0], factors[k]), inputs.dists[names[others[k]]], rng)
        for k, (name, one) in enumerate(inputs.dists.items())
    }


def _true(
    believed: LengthDistribution,
    kind: str,
    factors: tuple[float, float],
    other: LengthDistribution,
    rng: np.random.Generator,
) -> LengthDistribution:
    """`factors`: that of all LLMs, and its own."""
    match kind:
        case "all × one factor":
            return _times(believed, factors[:1])
        case "each × its own":
            return _times(believed, factors[1:])
        case "heavier tail":
            spread = np.exp(TAIL * rng.standard_normal(200))
            return _times(believed, spread / spread.mean())
        case "another LLM's":
            return other
        case _:
            return believed


def _times(dist: LengthDistribution, factors: Iterable[float]) -> LengthDistribution:
    """A mixture of the distribution multiplied by each factor, without strata."""
    shares = np.diff(dist.cumulative, prepend=0.0)
    some = list(factors)
    lengths = np.concatenate([np.maximum(1, np.rint(dist.tokens * factor)) for factor in some])
    return from_pmf(dist.name, lengths, np.tile(shares, len(some)), source="benchmark", samples=dist.samples)


def _true_models(llms: Sequence[LLMModel], rng: np.random.Generator) -> tuple[LLMModel, ...]:
    """Steps and loads of each LLM up to 20 % slower or faster."""
    changed = []
    for llm in llms:
        factor = math.exp(rng.uniform(-1, 1) * math.log1p(SPEEDS))
        shapes = tuple(
            structs.replace(
                shape,
                load_s=factor * shape.load_s,
                latency=structs.replace(
                    shape.latency, coefficients=tuple(factor * c for c in shape.latency.coefficients)
                ),
            )
            for shape in llm.shapes
        )
        changed.append(structs.replace(llm, shapes=shapes))
    return tuple(changed)


if __name__ == "__main__":
    main()
