"""The events of a run that went exactly as a simulation says: one engine for each LLM, requests sent at once."""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.event import AnyEvent, EngineReady, RequestFinished
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.domain.request import IntArray
from samullm_tui.simulate.application import Problem, simulate_plan
from samullm_tui.simulate.graph import prompts_of

A, B = Placement("a", 1, 1, (0,)), Placement("b", 1, 1, (1,))
PLAN = Plan(planner="search", stages=(Stage((A, B), ("a", "b")),))
"""Both LLMs at once: b waits for what a gives."""


def events_of(problem: Problem, lengths: IntArray) -> tuple[list[AnyEvent], float]:
    """What a journal of PLAN would hold, and its makespan."""
    trace = simulate_plan(problem, PLAN, lengths)
    table, prompts = problem.table, prompts_of(problem.table, lengths)
    replicas = {placement.llm: placement.replicas[0] for placement in (A, B)}
    ready_s = {name: problem.llms[problem.index(name)].shape(1).load_s for name in replicas}
    events: list[AnyEvent] = [
        EngineReady(at_s=ready_s[name], replica=replica, load_s=ready_s[name])
        for name, replica in replicas.items()
    ]
    for i in range(len(table)):
        llm = table.llm_names[table.llm[i]]
        parents = table.parents_of(i)
        sources_s = float(np.max(trace.finish_s[parents])) if len(parents) else 0.0
        events.append(
            RequestFinished(
                at_s=float(trace.finish_s[i]),
                node=table.node_names[table.node[i]],
                id=table.ids[i],
                llm=llm,
                replica=replicas[llm].name,
                prompt_tokens=int(prompts[i]),
                output_tokens=int(lengths[i]),
                finish_reason="stop",
                sent_s=max(ready_s[llm], sources_s),
                offset=0,
            )
        )
    return sorted(events, key=lambda event: event.at_s), trace.makespan_s
