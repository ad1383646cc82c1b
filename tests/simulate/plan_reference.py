"""Whole plans simulated plainly: every engine steps one by one, always the one that may act first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from reference import Reference, Request

from samullm_tui.domain.plan import Plan, Replica, Stage
from samullm_tui.simulate.dealing import deal
from samullm_tui.simulate.problem import EngineState, Problem, Progress


@dataclass
class Engine:
    """One replica. `see` is told of requests whose state may have changed."""

    schedule: Reference
    see: Callable[[Request], None]
    coming: list[Request] = field(default_factory=list)

    def act_s(self) -> float:
        if self.schedule.running or self.schedule.waiting:
            return self.schedule.now
        return max(self.schedule.now, min((r.arrival_s for r in self.coming), default=math.inf))

    def step(self) -> None:
        self.schedule.now = self.act_s()
        if not self.members():
            self.schedule.seen = self.schedule.now
        while due := [r for r in self.coming if r.arrival_s <= self.schedule.sight()]:
            self.take(min(due, key=lambda r: (r.arrival_s, r.index)))
        members = self.members()
        if members:
            self.schedule.step()
        for request in members:
            self.see(request)

    def take(self, request: Request) -> None:
        """Queues a request; one whose prompt fills the context ends at once, without a token."""
        self.coming.remove(request)
        if request.prompt < self.schedule.config.max_model_len:
            self.schedule.waiting.append(request)
        else:
            request.finish_s = self.schedule.now
            self.see(request)

    def members(self) -> list[Request]:
        return [*self.schedule.running, *self.schedule.waiting]


class PlanReference:
    def __init__(self, problem: Problem, output: list[int]) -> None:
        self.problem = problem
        self.output = output
        self.n = len(problem.table)
        self.llm = problem.table.llm.tolist()
        self.generated = [0] * self.n
        self.finish_s: list[float | None] = [None] * self.n
        self.start_s: list[float | None] = [None] * self.n
        self.engines: dict[Replica, Engine] = {}
        self.engine_of = np.full(self.n, -1)
        self.now = 0.0
        self.times: list[tuple[float, float]] = []
        self.prompts: dict[int, int] = {}

    def run(self, plan: Plan) -> None:
        for index, stage in enumerate(plan.stages):
            last = index == len(plan.stages) - 1
            until = self.problem.table.llm_names if last else stage.until
            targets = {self.problem.index(name) for name in until}
            if self.left(targets):
                self.stage(stage, targets)
            else:
                self.times.append((self.now, self.now))

    def left(self, targets: set[int]) -> list[int]:
        return [i for i in range(self.n) if self.finish_s[i] is None and self.llm[i] in targets]

    def stage(self, stage: Stage, targets: set[int]) -> None:
        self.deal(stage)
        waited = self.left(targets)
        end_s = math.inf
        while True:
            act_s, replica = min((e.act_s(), i) for i, e in enumerate(self.engines.values()))
            if act_s >= end_s:
                break
            list(self.engines.values())[replica].step()
            if end_s == math.inf and all(self.finish_s[i] is not None for i in waited):
                end_s = max(self.finish_s[i] for i in waited)
        if all(f is not None for f in self.finish_s):
            end_s = max(self.finish_s)
        self.times.append((self.now, end_s))
        self.now = end_s

    def see(self, request: Request) -> None:
        index = request.index
        self.generated[index] = request.tokens - self.prompts[index]
        if request.scheduled_s is not None and self.start_s[index] is None:
            self.start_s[index] = request.scheduled_s
        if request.finish_s is None or self.finish_s[index] is not None:
            return
        self.finish_s[index] = request.finish_s
        for child in range(self.n):
            parents = self.problem.table.parents_of(child).tolist()
            if index in parents and all(self.finish_s[p] is not None for p in parents):
                self.arrive(child)

    def arrive(self, index: int) -> None:
        """Hands a request whose parents are all finished to its engine, when it has one."""
        table = self.problem.table
        parents = table.parents_of(index)
        fed = table.fed[table.parent_start[index] : table.parent_start[index + 1]]
        tokens = sum(self.generated[p] for p, f in zip(parents, fed, strict=True) if f)
        self.prompts[index] = int(table.prompt_tokens[index]) + tokens
        ready = max((self.finish_s[p] for p in parents), default=0.0)
        if self.engine_of[index] < 0:
            return
        has = self.generated[index]
        request = Request(index, ready, self.prompts[index] + has, self.output[index] - has)
        request.max_tokens = int(table.max_tokens[index]) - has
        if table.prefix is not None:
            request.prefix, request.shared = int(table.prefix[index]), int(table.prefix_tokens[index])
        if self.problem.priority is not None:
            request.priority = int(self.problem.priority[index])
        list(self.engines.values())[self.engine_of[index]].coming.append(request)

    def progress(self) -> Progress:
        states = {}
        unfinished = np.array([f is None for f in self.finish_s])
        for e, (replica, engine) in enumerate(self.engines.items()):
            running = [r for r in engine.schedule.running if r.finish_s is None]
            waiting = [r for r in engine.schedule.waiting if r.scheduled_s is not None]
            states[replica] = EngineState(
                engine.schedule.now,
                np.array([r.index for r in running], np.int64),
                np.array([r.computed for r in running], np.int64),
                np.array([r.index for r in waiting], np.int64),
                np.array([r.prompt for r in [*running, *waiting]], np.int64),
                np.flatnonzero((self.engine_of == e) & unfinished),
                np.zeros(len(running), np.int64),
                engine.schedule.seen,
            )
        finish_s = np.array([math.nan if f is None else f for f in self.finish_s])
        return Progress(~unfinished, np.array(self.generated, np.int64), finish_s, states)

    def deal(self, stage: Stage) -> None:
        progress = self.progress()
        before = self.engines
        kept = {r: progress.engines[r] for r in stage.replicas if r in before}
        output = np.array(self.output, np.int64)
        left = progress.left(self.problem)
        self.engine_of = deal(self.problem, output, progress, stage.replicas, kept, left, self.now)
        self.engines = {}
        for replica in stage.replicas:
            shape = self.problem.llms[self.problem.index(replica.llm)].shape(replica.tp)
            schedule = Reference(shape.config, shape.latency, [], now=self.now + shape.load_s)
            self.engines[replica] = Engine(schedule, self.see)
        here = set()
        for e, (replica, engine) in enumerate(self.engines.items()):
            if replica in before:
                engine.schedule = before[replica].schedule
                engine.schedule.go_on(self.now, {i for i in range(self.n) if self.engine_of[i] == e})
                here |= {r.index for r in engine.members()}
        for index in range(self.n):
            parents = self.problem.table.parents_of(index)
            waits = self.finish_s[index] is None and index not in here
            if waits and all(self.finish_s[p] is not None for p in parents):
                self.arrive(index)
