"""Each way in which a plan can be wrong is found and named."""

from __future__ import annotations

import pytest
from planning_problems import drawn, summary

from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.planner.baselines import min_heuristic
from samullm_tui.planner.validity import valid

WRITER = Placement("writer", 1, 2, (0, 1))
JUDGE = Placement("judge", 2, 1, (2, 3))


def plan(*stages: Stage) -> Plan:
    return Plan(planner="test", stages=stages)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((Stage((WRITER, Placement("judge", 2, 1, (1, 0))), ()),), "GPU 0 is used 2 times"),
        ((Stage((WRITER, Placement("judge", 2, 1, (3, 4))), ()),), "GPU 4 is not in the cluster of 4"),
        ((Stage((WRITER, Placement("judge", 1, 1, (2,))), ()),), "judge tp1 ×1: tp is none of 2"),
        (
            (Stage((Placement("writer", 1, 1, (0,)), Placement("judge", 2, 1, (1, 2))), ()),),
            "not in one island",
        ),
        ((Stage((WRITER, Placement("judge", 2, 2, (2, 3))), ()),), "judge tp2 ×2 has 2 GPUs"),
        ((Stage((WRITER, Placement("writer", 1, 1, (2,)), JUDGE), ()),), "writer has 2 placements"),
        ((Stage((WRITER,), ("judge",)), Stage((JUDGE,), ())), "waits for judge, which it does not run"),
        ((Stage((WRITER,), ()),), "judge has requests and is in no stage"),
        ((Stage((JUDGE,), ()), Stage((WRITER,), ())), "judge runs before writer"),
        ((Stage((WRITER, JUDGE, Placement("poet", 1, 1, (2,))), ()),), "poet is no LLM of the application"),
    ],
)
def test_a_wrong_plan_is_named(stages: tuple[Stage, ...], said: str) -> None:
    assert any(said in line for line in valid(summary(), plan(*stages)))


def test_a_right_plan_has_nothing_wrong() -> None:
    some = summary()
    assert valid(some, plan(Stage((WRITER, JUDGE), ("writer", "judge")))) == []
    assert valid(some, plan(Stage((WRITER,), ("writer",)), Stage((JUDGE,), ("judge",)))) == []
    assert valid(some, min_heuristic(some, drawn(some))) == []
