"""Priorities by what is left to do."""

from __future__ import annotations

import numpy as np
from plan_cases import make_problem, make_table, one_each

from samullm_tui.domain.plan import Plan
from samullm_tui.simulate.application import simulate_plan
from samullm_tui.simulate.priorities import longest_first


def test_the_longest_way_to_the_end_goes_first() -> None:
    table = make_table([0] * 5, [20, 20, 20, 20, 20], [[], [0], [1], [], []], names=("A",))
    problem = longest_first(make_problem(table), np.array([10.0, 10, 10, 10, 25]))
    assert problem.priority is not None
    assert problem.priority.tolist() == [-33, -22, -11, -11, -26]
    assert {s.config.scheduling_policy for s in problem.llms[0].shapes} == {"priority"}


def test_a_long_chain_behind_many_short_requests_ends_earlier_when_it_goes_first() -> None:
    short, steps = 12, 4
    parents = [[] for _ in range(short + 1)] + [[short + k] for k in range(steps - 1)]
    problem = make_problem(make_table([0] * len(parents), [8] * len(parents), parents, names=("A",)), seqs=2)
    output = np.full(len(parents), 10)
    plan = Plan(planner="test", stages=(one_each("A"),))
    first_come = simulate_plan(problem, plan, output)
    longest = simulate_plan(longest_first(problem, output.astype(float)), plan, output)
    assert longest.finish_s[-1] < first_come.finish_s[-1]
    assert longest.makespan_s < first_come.makespan_s
