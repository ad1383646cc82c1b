"""Schedules: which LLM gets which size when; finding good ones by annealing over them as fluids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samullm_tui.domain.plan import Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.planner.annealing import anneal, move
from samullm_tui.planner.fluid import RUNNING, Bools, Floats, Fluids, Options, end_of, fresh_fluids, roll_out
from samullm_tui.planner.outlook import Estimate, Outlook, Task
from samullm_tui.planner.shapes import Size, sizes_of, smallest
from samullm_tui.simulate.application import Beginning, Progress

__all__ = [
    "WARM",
    "Schedule",
    "Table",
    "annealed",
    "as_schedule",
    "longest_first",
    "moved",
    "promising",
    "simple",
    "wandered",
]

STARTS = 8
FURTHER_MOVES = 2
"""For each unit, room in a schedule for so many moves beside the one that starts it."""
HOT, WARM = 0.05, 0.004
"""Temperatures at which annealing begins, from a start and from a good schedule."""
POINTS = 64
DOUBT, WANDERING = 0.03, 200
"""Standard deviation of the share by which a unit's time may be wrong, and steps of annealing for each unit."""
NO_GROWTH = 0.25
"""How often a neighbour of a schedule differs in whether it grows."""

Unit = tuple[int, ...]
Option = dict[int, Size]


@dataclass(frozen=True)
class Schedule:
    """`moves` [T, 2] (unit, option) in their order, rows of -1 at the end; `beside` [U]; whether running LLMs get the
    GPUs that nothing waits for. See `fluid`.
    """

    moves: IntArray
    beside: Bools
    grows: bool = True

    @property
    def key(self) -> bytes:
        return self.moves.tobytes() + self.beside.tobytes() + bytes([self.grows])


class Table:
    """What a schedule chooses from: the options of each unit with their curves.

    Work is what is left where the task begins. An LLM's curve is taken as if all that it waits for were there. LLMs
    that can only run together have one option: that in which they run, or the smallest.
    """

    def __init__(self, task: Task, units: tuple[Unit, ...] = ()) -> None:
        """`units` where others than the task's are wanted."""
        problem = task.problem
        self.units = units or task.units
        outlook = Outlook(task, task.replays.begun)
        self.choices = tuple(_choices(outlook, unit) for unit in self.units)
        self.rows = (1 + FURTHER_MOVES) * len(self.units)
        self.index = {name: llm for llm, name in enumerate(problem.table.llm_names)}
        self.unit_of = {llm: u for u, unit in enumerate(self.units) for llm in unit}
        self.island_of = {gpu: k for k, island in enumerate(problem.islands) for gpu in island}
        self.options = self._options(task)
        self._begin(outlook)
        self._unit = np.array([self.unit_of.get(llm, 0) for llm in range(len(problem.llms))])[
            problem.table.llm
        ]
        self._prompts, self._outputs = task.prompts, task.output_tokens
        self._flops_per_token = task.flops_per_token
        left = outlook.flops_left(np.arange(len(problem.table)))
        self._flops = np.where(outlook.progress.done, 0.0, left)
        self._total = np.bincount(self._unit, self._flops, len(self.units))
        self._before = self._work(outlook.progress)
        self.scratch = self.fluids()

    def fluids(self) -> Fluids:
        """For a schedule of this table."""
        return fresh_fluids(len(self.units), self.options.islands, self.rows)

    def share_done(self, done: Bools) -> Floats:
        """[U] of each unit's work, that of finished requests [n]."""
        finished = np.bincount(self._unit[done], self._flops[done], len(self.units))
        share: Floats = finished / np.maximum(self._total, 1e-9)
        return share

    def share_of_tokens(self, progress: Progress) -> Floats:
        """[U] of each unit's work, that of unfinished requests too."""
        share: Floats = (self._work(progress) - self._before) / np.maximum(self._total, 1e-9)
        return share

    def _work(self, progress: Progress) -> Floats:
        """[U] useful FLOPs of all that each unit has done so far."""
        prompts = np.where(progress.done | (progress.generated > 0), self._prompts, 0)
        tokens = prompts + np.where(progress.done, self._outputs, progress.generated)
        return np.bincount(self._unit, self._flops_per_token * tokens, len(self.units)).astype(np.float64)

    def estimated_s(self, schedule: Schedule) -> float:
        """The schedule's makespan as fluids."""
        return roll_out(self.options, schedule.moves, schedule.beside, schedule.grows, self.scratch)[0]

    def _options(self, task: Task) -> Options:
        graph, problem = task.graph, task.problem
        most = max(map(len, self.choices))
        shape = (len(self.units), most, max(map(len, self.units)))
        tp, dp = np.ones(shape, np.int64), np.zeros(shape, np.int64)
        curve, load_s = np.zeros((*shape[:2], POINTS + 1)), np.zeros(shape[:2])
        feeds = np.zeros((shape[0], shape[0]), dtype=bool)
        for u, (unit, choices) in enumerate(zip(self.units, self.choices, strict=True)):
            members = len(choices[0])
            sources = graph.unit_sources(unit)
            feeds[[k for k, other in enumerate(self.units) if sources & set(other)], u] = True
            ready = _ready(task, unit)
            for k, choice in enumerate(choices):
                tp[u, k, :members], dp[u, k, :members] = zip(*choice.values(), strict=True)
                load_s[u, k] = max(problem.llms[llm].shape(size.tp).load_s for llm, size in choice.items())
                curve[u, k] = np.max(
                    [_curve(ready.from_start(llm, size)) for llm, size in choice.items()], axis=0
                )
                curve[u, k] = np.maximum.accumulate(np.maximum(curve[u, k] - load_s[u, k], 0.0))
        most_options = np.array([len(choices) for choices in self.choices], dtype=np.int64)
        islands = np.array([len(island) for island in problem.islands], dtype=np.int64)
        path_s = np.zeros(shape[:2])
        for u, k in np.ndindex(*path_s.shape):
            same = (tp[u, :, 0] == tp[u, k, 0]) & (dp[u, :, 0] > 0)
            path_s[u, k] = max(1e-9, curve[u, same, -1].min(initial=np.inf))
        begun = fresh_fluids(len(self.units), islands)
        return Options(tp, dp, curve, path_s, load_s, most_options, feeds, islands, begun)

    def _begin(self, outlook: Outlook) -> None:
        """Writes down what runs where the task begins; of several sizes of an LLM one alone counts."""
        options, begun, sizes = self.options, self.options.begun, outlook.sizes()
        for u, choices in enumerate(self.choices):
            k = next((k for k, size in enumerate(choices) if size.items() <= sizes.items()), -1)
            if k < 0:
                continue
            begun.phase[u], begun.option[u] = RUNNING, k
            begun.ready_s[u] = max(outlook.wait_s(llm, size) for llm, size in choices[k].items())
            serving = outlook.serving(choices[k])
            begun.serving[u] = choices.index(serving) if serving in choices else -1
            done = (0.0, 0.0, 0.0)
            begun.own_s[u] = end_of(options, u, k, begun.serving[u], done, begun.ready_s[u])
            for replica in outlook.running:
                llm = outlook.task.problem.index(replica.llm)
                if llm in choices[k] and replica.tp == choices[k][llm].tp:
                    for gpu in replica.gpus:
                        begun.used[u, self.island_of[gpu]] += 1
        begun.free[:] = options.islands - begun.used.sum(axis=0)


def _choices(outlook: Outlook, unit: Unit) -> tuple[Option, ...]:
    """What the unit may be; its finished LLMs are left out."""
    problem = outlook.task.problem
    if len(unit) == 1:
        return tuple({unit[0]: size} for size in sizes_of(problem.llms[unit[0]], problem))
    left = [llm for llm in unit if llm in outlook.left]
    sizes = outlook.sizes()
    if all(llm in sizes for llm in left):
        return ({llm: sizes[llm] for llm in left},)
    return ({llm: smallest(problem.llms[llm], problem) for llm in left},)


def _ready(task: Task, unit: Unit) -> Outlook:
    """What is left of the unit, all that the others do done."""
    begun, others = task.replays.begun.progress, ~np.isin(task.problem.table.llm, unit)
    done = others | begun.done
    generated = np.where(others, task.output_tokens, begun.generated)
    return Outlook(task, Beginning(Progress(done, generated, np.where(done, 0.0, np.nan))))


def _curve(estimate: Estimate) -> Floats:
    """[POINTS + 1] seconds until each share of the work is finished, the load included."""
    shares = np.linspace(0.0, 1.0, POINTS + 1)
    curve: Floats = np.interp(shares * estimate.flops[-1], estimate.flops, estimate.times_s)
    curve[-1] = estimate.end_s
    return curve


def promising(table: Table, rng: np.random.Generator, steps: int) -> list[tuple[float, Schedule]]:
    """Different schedules from `steps` of annealing, each with its makespan as fluids in seconds, best first."""
    starts = [annealed(table, _start(table, start, rng), rng, steps // STARTS) for start in range(STARTS)]
    found = {schedule.key: (table.estimated_s(schedule), schedule) for schedule in starts}
    return sorted(found.values(), key=lambda one: one[0])


def annealed(
    table: Table, start: Schedule, rng: np.random.Generator, steps: int, hot: float = HOT
) -> Schedule:
    """The best schedule that so many steps from a start find."""
    moves, beside = start.moves.copy(), start.beside.copy()
    room = (moves.copy(), moves.copy(), beside.copy(), beside.copy())
    anneal(table.options, moves, beside, rng.random((steps, 5)), hot, room, table.scratch)
    return Schedule(moves, beside)


def wandered(table: Table, schedule: Schedule, rng: np.random.Generator) -> Schedule:
    """What a short annealing from the schedule finds when every unit takes somewhat longer or shorter than thought:
    good schedules by more than the letter of an estimate.
    """
    options = table.options
    doubt = np.exp(rng.normal(0.0, DOUBT, len(table.units)))[:, None]
    unsure = options._replace(curve=options.curve * doubt[:, :, None], path_s=options.path_s * doubt)
    moves, beside = schedule.moves.copy(), schedule.beside.copy()
    room = (moves.copy(), moves.copy(), beside.copy(), beside.copy())
    anneal(unsure, moves, beside, rng.random((WANDERING * len(table.units), 5)), WARM, room, table.scratch)
    return Schedule(moves, beside)


def simple(table: Table) -> list[Schedule]:
    """The longest first in its smallest size, consumers beside their sources or after them."""
    smallest_ones = np.zeros(len(table.units), np.int64)
    return [longest_first(table, smallest_ones, beside=beside) for beside in (True, False)]


def _start(table: Table, start: int, rng: np.random.Generator) -> Schedule:
    """The first starts all of the smallest sizes or the next larger, later ones of any."""
    most = table.options.most
    choice = np.minimum(start // 2, most - 1) if start < 4 else rng.integers(0, most)
    return longest_first(table, choice, beside=start % 2 == 0)


def longest_first(table: Table, choice: IntArray, *, beside: bool) -> Schedule:
    """Every unit in the option chosen for it, those with the most work first. What runs goes on as it is."""
    options, units = table.options, np.arange(len(table.units))
    choice = np.where(options.begun.option >= 0, options.begun.option, choice)
    gpus = (options.tp * options.dp).sum(axis=2)[units, choice]
    order = np.argsort(-options.curve[units, choice, -1] * gpus, kind="stable")
    moves = np.full((table.rows, 2), -1, dtype=np.int64)
    moves[: len(units)] = np.stack([order, choice[order]], axis=1)
    return Schedule(moves, np.full(len(units), beside))


def moved(table: Table, schedule: Schedule, rng: np.random.Generator) -> Schedule:
    """A neighbour of the schedule: one change or a few (see `annealing.move`)."""
    grows = schedule.grows ^ (rng.random() < NO_GROWTH)
    other = Schedule(schedule.moves.copy(), schedule.beside.copy(), bool(grows))
    for draw in rng.random((int(rng.geometric(0.6)), 4)):
        move(table.options, other.moves, other.beside, draw)
    return other


def as_schedule(table: Table, stages: Sequence[Stage]) -> Schedule:
    """What a plan does, as a schedule: the sizes of units in the order in which they come. Units that no stage has come
    last, in their smallest size.
    """
    last = {u: k for u, k in enumerate(table.options.begun.option.tolist()) if k >= 0}
    moves = list(last.items())
    beside = np.full(len(table.units), False)
    for stage in stages:
        sizes = {table.index[p.llm]: Size(p.tp, p.dp) for p in stage.placements}
        changes = _changes(table, sizes, last)
        for u, _ in changes:
            if u not in last:
                beside[u] = any(table.options.feeds[table.unit_of[llm], u] for llm in sizes)
        moves += changes
        last |= dict(changes)
    moves += [(u, 0) for u in range(len(table.units)) if u not in last]
    while len(moves) > table.rows:  # the last change of what runs is given up
        known = {u: k for k, (u, _) in reversed(list(enumerate(moves)))}
        del moves[max(k for k, (u, _) in enumerate(moves) if known[u] < k)]
    rows = np.full((table.rows, 2), -1, dtype=np.int64)
    rows[: len(moves)] = np.array(moves, dtype=np.int64).reshape(-1, 2)
    return Schedule(rows, beside)


def _changes(table: Table, sizes: Mapping[int, Size], last: Mapping[int, int]) -> list[tuple[int, int]]:
    """Units that a stage has in another option than before, those that give GPUs away first, then sources first."""
    gpus = (table.options.tp * table.options.dp).sum(axis=2)
    found = []
    for u, choices in enumerate(table.choices):
        k = next((k for k, some in enumerate(choices) if some.items() <= sizes.items()), -1)
        if k >= 0 and last.get(u) != k:
            found.append((int(gpus[u, k] - gpus[u, last[u]]) if u in last else 0, u, k))
    return [(u, k) for _, u, k in sorted(found, key=lambda one: one[0])]
