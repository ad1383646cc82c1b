"""The question before a start: what will happen, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from samullm_tui.console.layout.duration import duration
from samullm_tui.console.layout.numbers import gib, plural
from samullm_tui.console.layout.text import Line, wrap
from samullm_tui.console.sources import Place
from samullm_tui.console.views.common import problem_lines
from samullm_tui.console.views.plans import placement_story
from samullm_tui.domain.errors import Problem
from samullm_tui.domain.event import GpuSample
from samullm_tui.domain.plan import Candidate, Forecast

__all__ = ["WORD", "ApproveView", "approve_lines"]

WORD = "start"
IN_USE_BYTES = 1024**3


class ApproveView(Struct, frozen=True):
    """`gpus_now` is None while nobody has looked yet. `working` replaces the question; `problems`: why it did not
    start when that was tried.
    """

    forecast: Forecast
    candidate: Candidate
    place: Place
    gpus_now: Sequence[GpuSample] | None
    folder: Path
    typed: str = ""
    working: str = ""
    problems: Sequence[Problem] = ()


def approve_lines(view: ApproveView, width: int) -> list[Line]:
    """All lines of the question."""
    makespan = view.candidate.makespan_s
    lines: list[Line] = [
        [],
        [
            (
                f"Start plan {view.candidate.rank} ({view.candidate.plan.planner}) of {view.forecast.application}?",
                "bold",
            )
        ],
        [],
        *([*problem_lines(view.problems, width - 6), []] if view.problems else []),
        _pair("makespan", f"~{duration(makespan.p50)}", f"9 in 10 within {duration(makespan.p90)}"),
        _pair("GPU-hours", f"~{view.candidate.gpu_hours:.2f}", plural(view.candidate.loads, "load")),
        _pair("requests", f"{sum(view.forecast.requests.values()):,}"),
        *_engines(view, width - 18),
        *_gpus(view),
        _pair("outputs", f"{view.folder}/…", "a folder for this run"),
        [],
    ]
    if view.place.engine == "simulated":
        note = (
            f"Simulated engines{_pace(view.place)}: no LLM is loaded and none answers; times are simulated."
        )
        lines += [*[[(line, "warning")] for line in wrap(note, width - 6)], []]
    lines += [[(view.working, "dim")]] if view.working else _question(view.typed)
    return [[("   ", ""), *line] for line in lines]


def _pace(place: Place) -> str:
    if place.speed == "max":
        return ", as fast as they go"
    return "" if place.speed == 1 else f", {place.speed:g} seconds a second"


def _pair(name: str, value: str, note: str = "") -> Line:
    return [(f"  {name:<12}", "dim"), (value, ""), (f"   {note}" if note else "", "dim")]


def _engines(view: ApproveView, width: int) -> list[Line]:
    story = "; ".join(f"{llm} {shapes}" for llm, shapes in placement_story(view.candidate).items())
    first, *rest = wrap(story, width) or [""]
    return [_pair("engines", first), *[[(" " * 14, ""), (line, "")] for line in rest]]


def _gpus(view: ApproveView) -> list[Line]:
    used = sorted({gpu for span in view.candidate.spans for gpu in span.gpus})
    which = f"{len(used)} of {view.place.gpus}"
    if not view.place.present:
        return [_pair("GPUs", f"{which} × {view.place.title.partition(' × ')[2]}", "not of this machine")]
    if view.gpus_now is None:
        return [_pair("GPUs", which, "looking at what they hold …")]
    busy = [gpu for gpu in view.gpus_now if gpu.index in used and (gpu.memory_used_bytes or 0) > IN_USE_BYTES]
    if not busy:
        return [_pair("GPUs", which, "now empty" if view.gpus_now else "what they hold is not known")]
    lines = [_pair("GPUs", which, "some in use by others: engines may not start there")]
    return lines + [
        [
            (" " * 14, ""),
            (
                f"GPU {gpu.index} holds {gib(gpu.memory_used_bytes)} of {gib(gpu.memory_total_bytes)} GiB",
                "warning",
            ),
        ]
        for gpu in busy
    ]


def _question(typed: str) -> list[Line]:
    ready = typed == WORD
    after = "  ⏎ launches" if ready else ""
    return [
        [
            ("Type ", ""),
            (WORD, "accent bold"),
            (" and ⏎ to launch, esc to go back:  ", ""),
            (typed, "bold"),
            ("▏", "accent"),
            (after, "good"),
        ]
    ]
