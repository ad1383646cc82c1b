"""Schedules: an order of the LLMs and a size for each; finding good ones by annealing over a table of durations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.outlook import Outlook
from samullm_tui.planner.packing import Bools, Options, anneal, list_schedule
from samullm_tui.planner.shapes import Size, sizes_of, smallest

__all__ = ["Schedule", "Table", "moved", "promising"]

STARTS = 8
STEPS_PER_UNIT = 1500

Unit = tuple[int, ...]
Option = dict[int, Size]


@dataclass(frozen=True)
class Schedule:
    """`order` of the units; `sizes` of their LLMs; `beside`: consumers that run beside their sources, not after.

    Whenever GPUs are free, the first unit of the order that may start and fits gets them and keeps them until it has
    finished.
    """

    order: tuple[Unit, ...]
    sizes: Mapping[int, Size]
    beside: frozenset[Unit]

    @property
    def key(self) -> tuple[object, ...]:
        return self.order, tuple(sorted(self.sizes.items())), self.beside


class Table:
    """What a schedule chooses from: the options of each unit with their durations, loads included.

    An LLM's duration is taken as if all that it waits for were there. LLMs that can only run together have one
    option, the smallest.
    """

    def __init__(self, outlook: Outlook) -> None:
        task = outlook.task
        problem = task.problem
        self.units = task.graph.units
        self.choices: tuple[tuple[Option, ...], ...] = tuple(
            tuple({unit[0]: size} for size in sizes_of(problem.llms[unit[0]], problem))
            if len(unit) == 1
            else ({llm: smallest(problem.llms[llm], problem) for llm in unit},)
            for unit in self.units
        )
        self.consumers = frozenset(unit for unit in self.units if task.graph.unit_sources(unit))
        self.options = self._options(outlook)

    def _options(self, outlook: Outlook) -> Options:
        graph = outlook.task.graph
        most = max(map(len, self.choices))
        shape = (len(self.units), most, max(map(len, self.units)))
        tp, dp, seconds = np.ones(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape[:2])
        feeds = np.zeros((shape[0], shape[0]), dtype=bool)
        for u, (unit, choices) in enumerate(zip(self.units, self.choices, strict=True)):
            sources = graph.unit_sources(unit)
            feeds[[k for k, other in enumerate(self.units) if sources & set(other)], u] = True
            for k, choice in enumerate(choices):
                tp[u, k, : len(unit)], dp[u, k, : len(unit)] = zip(*choice.values(), strict=True)
                seconds[u, k] = max(outlook.from_start(llm, size).end_s for llm, size in choice.items())
        most_options = np.array([len(choices) for choices in self.choices], dtype=np.int64)
        islands = np.array([len(island) for island in outlook.task.problem.islands], dtype=np.int64)
        return Options(tp, dp, seconds, most_options, feeds, islands)


def promising(table: Table, rng: np.random.Generator, most: int) -> list[Schedule]:
    """Different schedules: up to `most` from annealing, best by the table first; then two simple ones."""
    found: dict[tuple[object, ...], tuple[float, Schedule]] = {}
    for start in range(STARTS):
        order, choice, beside = _start(table, start, rng)
        draws = rng.random((STEPS_PER_UNIT * len(order), 4))
        anneal(table.options, order, choice, beside, draws)
        makespan_s = float(list_schedule(table.options, order, choice, beside).max())
        schedule = _schedule(table, order, choice, beside)
        found[schedule.key] = (makespan_s, schedule)
    ranked = [schedule for _, schedule in sorted(found.values(), key=lambda one: one[0])]
    return [*ranked[:most], *(_schedule(table, *_start(table, start, rng)) for start in (0, 1))]


def _start(table: Table, start: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, Bools]:
    """Longest work first; in the first starts all of the smallest sizes, in later ones of any."""
    options, units = table.options, np.arange(len(table.units))
    choice = np.minimum(start, options.most - 1) if start < 4 else rng.integers(0, options.most)
    gpus = (options.tp * options.dp).sum(axis=2)[units, choice]
    order = np.argsort(-options.seconds[units, choice] * gpus, kind="stable")
    return order, choice, np.full(len(units), start % 2 == 0)


def _schedule(table: Table, order: IntArray, choice: IntArray, beside: Bools) -> Schedule:
    sizes = {llm: s for u, k in enumerate(choice.tolist()) for llm, s in table.choices[u][k].items()}
    chosen = frozenset(unit for u, unit in enumerate(table.units) if beside[u])
    return Schedule(tuple(table.units[u] for u in order.tolist()), sizes, chosen & table.consumers)


def moved(table: Table, schedule: Schedule, rng: np.random.Generator) -> Schedule:
    """One unit elsewhere in the order, in another size, or after its sources instead of beside them."""
    order, kind = list(schedule.order), int(rng.integers(5))
    unit = order[int(rng.integers(len(order)))]
    if kind <= 1:
        order.remove(unit)
        order.insert(int(rng.integers(len(order) + 1)), unit)
        return replace(schedule, order=tuple(order))
    if kind == 2:
        return replace(schedule, beside=schedule.beside ^ ({unit} & table.consumers))
    choices = table.choices[table.units.index(unit)]
    present = {llm: schedule.sizes[llm] for llm in unit}
    near = choices.index(present) + int(rng.integers(-3, 4))
    return replace(schedule, sizes={**schedule.sizes, **choices[min(max(near, 0), len(choices) - 1)]})
