"""A forecast as the contract's JSON object, and as words and tables for a person."""

from __future__ import annotations

import re
import shutil
import textwrap

import numpy as np

from samullm_tui.cli.output import print_table, seconds
from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.plan import Candidate, Forecast, GpuTime, PlannedStage, faster_draws

__all__ = ["forecast_json", "print_forecast"]

NO_BREAK = "\u00a0"


def forecast_json(forecast: Forecast, free: Forecast | None = None) -> dict[str, object]:
    """The object that the contract promises. `free` is the forecast without pins, when it was asked for."""
    best = forecast.candidates[0]
    against = {} if free is None else {"free": forecast_json(free), "pin_cost": _cost(forecast, free)}
    return {
        "application": forecast.application,
        "cluster": forecast.cluster,
        "planning_s": forecast.planning_s,
        "lower_bound_s": forecast.lower_bound_s,
        "samples": forecast.samples,
        "seed": forecast.seed,
        "quantile": forecast.quantile,
        "estimated": forecast.estimated,
        "pins": forecast.pins,
        "notes": forecast.notes,
        "candidates": [_candidate_json(candidate, best) for candidate in forecast.candidates],
        **against,
    }


def _candidate_json(candidate: Candidate, best: Candidate) -> dict[str, object]:
    won, shared = faster_draws(candidate, best)
    return {
        "rank": candidate.rank,
        "planner": candidate.plan.planner,
        "makespan_s": candidate.makespan_s,
        "draws": candidate.draws,
        "beats_best": None if candidate is best else won / shared if shared else None,
        "gap": candidate.gap,
        "gpu_hours": candidate.gpu_hours,
        "loads": candidate.loads,
        "gpu_time_s": sum((stage.gpu_time for stage in candidate.stages), start=GpuTime()),
        "stages": [_stage_json(stage) for stage in candidate.stages],
        "explanation": candidate.explanation,
    }


def _stage_json(planned: PlannedStage) -> dict[str, object]:
    placements = [
        {"llm": p.llm, "tp": p.tp, "dp": p.dp, "gpus": p.gpus, "kept": kept}
        for p, kept in zip(planned.stage.placements, planned.kept, strict=True)
    ]
    return {
        "start_s": planned.start_s,
        "end_s": planned.end_s,
        "placements": placements,
        "gpu_time_s": planned.gpu_time,
    }


def _cost(forecast: Forecast, free: Forecast) -> float:
    return forecast.candidates[0].makespan_s.p50 / free.candidates[0].makespan_s.p50 - 1


def print_forecast(forecast: Forecast, cluster: Cluster, free: Forecast | None = None) -> None:
    """Title, table, and the words of the best plan, no wider than the terminal."""
    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
    best = forecast.candidates[0]
    by = f"p{100 * forecast.quantile:g}"
    draws = f"simulated, {best.draws} draws{'' if by == 'p50' else f', best {by} first'}"
    print(f"{forecast.application} on {cluster.title}: {draws}, seed {forecast.seed}")
    for said in forecast.pins:
        _say(f"pinned: {said}", width, "  ")
    for said in forecast.notes:
        _say(said, width, "  ")
    if forecast.estimated:
        _say(f"estimated, not measured: {', '.join(forecast.estimated)} (how: at the end)", width, "  ")
    print()
    rows = [_row(candidate, best, forecast.quantile) for candidate in forecast.candidates]
    print_table(("plan", by, "p10 to p90", "gap", "beats 1", "GPU·h", "loads"), rows)
    print(f"no plan can beat {seconds(forecast.lower_bound_s)}; planned in {forecast.planning_s:.1f} s")
    if free is not None:
        _print_cost(forecast, free, width)
    print()
    for line in best.explanation:
        _say(line, width, "" if line.startswith("Stage ") else "  ")
    for llm, how in forecast.estimated.items():
        _say(f"≈ {llm}: {how}", width)


def _say(text: str, width: int, indent: str = "") -> None:
    """In lines of at most `width`; a number stays with its unit."""
    together = re.sub(r"(?<=\d) (?=(s|%|GiB)\b|%)", NO_BREAK, text)
    lines = textwrap.fill(
        together, width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    )
    print(lines.replace(NO_BREAK, " "))


def _row(candidate: Candidate, best: Candidate, quantile: float) -> tuple[str, ...]:
    won, shared = faster_draws(candidate, best)
    band = candidate.makespan_s
    value = float(np.quantile(candidate.makespans_s, quantile))
    return (
        f"{candidate.rank} {candidate.plan.planner}",
        f"~{seconds(value)}",
        f"{seconds(band.p10)} to {seconds(band.p90)}",
        f"+{candidate.gap:.0%}",
        "" if candidate is best else f"{won}/{shared}",
        f"{candidate.gpu_hours:.2f}",
        str(candidate.loads),
    )


def _print_cost(forecast: Forecast, free: Forecast, width: int) -> None:
    before = free.candidates[0]
    cost = _cost(forecast, free)
    what = "costs" if cost >= 0 else "gains"
    _say(
        f"what is asked {what} {abs(cost):.1%}: without it {before.plan.planner} takes "
        f"~{seconds(before.makespan_s.p50)} on {free.cluster}",
        width,
    )
