"""A producer and a judge: planned, predicted, run; then the same with one LLM after the other.

The product's own verbs do it all. Forecasts see the profiles of benchmarks.gpu.iterations and the lengths, which are
forced. On one GPU the best plan often is one LLM after the other; then there is nothing to run twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.engines import warm_starts
from benchmarks.gpu.pieces import Found, NotHere, Part, Piece, Table, main
from benchmarks.gpu.place import Place
from benchmarks.gpu.shapes import shapes_of
from benchmarks.gpu.verbs import samullm
from benchmarks.gpu.written_apps import (
    SEED,
    llm_table,
    node_table,
    store_profiles,
    text,
    write_application,
)

__all__ = ["PIECE"]

RECORDS = {"full": 1500, "small": 12}
PROMPT_TOKENS = {"full": (50, 400), "small": (5, 40)}
PRODUCED = {
    "full": {"short": 64, "medium": 192, "long": 512},
    "small": {"short": 8, "medium": 16, "long": 32},
}
JUDGED = {"full": 32, "small": 8}
NEEDS_S = {"full": 420.0, "small": 120.0}
BASELINE = "max-heuristic"


def parts(place: Place) -> list[Part]:
    needs_s = NEEDS_S[place.sizes]
    return [
        Part("planned", partial(_planned, place), needs_s),
        Part("one after the other", partial(_one_after_the_other, place), needs_s),
    ]


def _machine(place: Place) -> tuple[str, ...]:
    return ("--engine", "vllm", *(("--cluster", place.cluster) if place.cluster else ()), "--allow-outside")


def _application(place: Place) -> Path:
    """A producer that writes short, medium and long texts, and a judge of another LLM that reads each."""
    rng = np.random.default_rng(SEED)
    sizes, judged = PRODUCED[place.sizes], JUDGED[place.sizes]
    low, high = PROMPT_TOKENS[place.sizes]
    records = [
        {
            "id": f"{index:05d}",
            "text": text(int(rng.integers(low, high)), rng),
            "size": (size := str(rng.choice(list(sizes)))),
            "written": sizes[size],
            "judged": judged,
        }
        for index in range(RECORDS[place.sizes])
    ]
    producer, judge = shapes_of(place)[:2]
    tables = [llm_table(place, "producer", producer), llm_table(place, "judge", judge)]
    for size, tokens in sizes.items():
        where = f'where = {{ field = "size", equals = "{size}" }}\n'
        tables.append(node_table(f"write-{size}", "producer", ["texts"], "{text}", tokens, "written") + where)
        both = ["texts", f"write-{size}"]
        prompt = f"{{text}} {{write-{size}}}"
        tables.append(node_table(f"judge-{size}", "judge", both, prompt, judged, "judged"))
    return write_application(place.folder("apps"), "producer-and-judge", tables, records)


def _planned(place: Place) -> Found:
    store_profiles(place, shapes_of(place)[:2])
    app = str(_application(place))
    forecast = samullm(place, "plan", app, *_machine(place), timeout_s=place.left_s)
    warm_starts(place, shapes_of(place)[:2])
    outcome = samullm(place, "run", app, *_machine(place), "--yes", timeout_s=place.left_s)
    best = forecast["candidates"][0]
    return {
        **_of(outcome),
        "planner": best["planner"],
        "explanation": best["explanation"],
        "stages": best["stages"],
    }


def _one_after_the_other(place: Place) -> Found:
    store_profiles(place, shapes_of(place)[:2])
    app = str(_application(place))
    forecast = samullm(place, "plan", app, *_machine(place), timeout_s=place.left_s)
    baseline = next((c for c in forecast["candidates"] if c["planner"] == BASELINE), None)
    if baseline is None or _placed(baseline) == _placed(forecast["candidates"][0]):
        raise NotHere("one LLM after the other is the best plan itself")
    rank = baseline["rank"]
    plan = str(place.folder("apps") / "one-after-the-other.json")
    warm_starts(place, shapes_of(place)[:2])
    samullm(place, "plan", app, *_machine(place), "-o", plan, "--rank", str(rank), timeout_s=place.left_s)
    command = ("run", app, *_machine(place), "--plan", plan, "--yes")
    outcome = samullm(place, *command, timeout_s=place.left_s)
    return {**_of(outcome), "planner": BASELINE}


def _placed(candidate: Mapping[str, Any]) -> list[list[tuple[object, ...]]]:
    """Who runs where, stage by stage."""
    return [
        [(p["llm"], p["tp"], tuple(p["gpus"])) for p in stage["placements"]] for stage in candidate["stages"]
    ]


def _of(outcome: Mapping[str, object]) -> Found:
    names = ("status", "requests", "outputs", "errors", "makespan_s", "predicted_makespan_s")
    return {name: outcome[name] for name in names}


def table(_place: Place, found: Mapping[str, Found]) -> Table:
    rows = [
        (
            f"{name} ({part['planner']})",
            f"{part['outputs']} of {part['requests']}, {part['status']}",
            f"{part['makespan_s']:.1f}",
            f"{part['predicted_makespan_s']:.1f}",
            f"{part['predicted_makespan_s'] / part['makespan_s'] - 1:+.1%}",
        )
        for name, part in found.items()
    ]
    header = ("run (plan)", "outputs", "makespan s", "predicted s (simulated)", "error")
    return Table("(e) a producer and a judge", header, rows)


PIECE = Piece("application", __doc__ or "", parts, table)

if __name__ == "__main__":
    main(PIECE)
