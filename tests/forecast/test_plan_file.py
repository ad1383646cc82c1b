"""PLAN.json: what is written is what is read, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.domain.errors import PlanError
from samullm_tui.domain.plan import Placement, Plan, Stage
from samullm_tui.forecast.plan_file import check_plan, read_plan, write_plan

PLAN = Plan(planner="greedy", stages=(Stage((Placement("a", 2, 2, (0, 1, 2, 3)),), ("a",), "why"),))


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, PLAN, application="app", cluster="a100-80g:8")
    read = read_plan(path)
    assert (read.plan, read.application, read.cluster) == (PLAN, "app", "a100-80g:8")
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("", "", "not JSON"),
        ("[]", "", "Expected `object`"),
        ('{"application": "a", "cluster": "c"}', "", "missing required field `plan`"),
        (
            '{"application": "a", "cluster": "c", "plan": {"planner": "p", "stages": [{"placements": 3, "until": []}]}}',
            "plan.stages[0].placements",
            "Expected `array`",
        ),
        (
            '{"application": "a", "cluster": "c", "plan": {"planner": "p", "stages": []}}',
            "plan.stages",
            "no stage",
        ),
        (
            '{"application": "a", "cluster": "c", "plan": {"planner": "p", "stages": []}, "x": 1}',
            "",
            "unknown field",
        ),
        ('"\xff"', "", "Expected `object`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, content: str, place: str, said: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.place) == (str(path), place)
    assert said in problem.wrong


def test_bytes_that_are_no_text_are_said(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b'{"application": "\xff\xfe"}')
    with pytest.raises(PlanError):
        read_plan(path)


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="No such file"):
        read_plan(tmp_path / "none.json")
    with pytest.raises(PlanError, match="Is a directory"):
        read_plan(tmp_path)
    with pytest.raises(PlanError, match="cannot be written"):
        write_plan(tmp_path / "none" / "plan.json", PLAN, application="a", cluster="c")


def test_a_plan_for_another_application_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(path, PLAN, application="app", cluster="a100-80g:8")
    read = read_plan(path)
    assert check_plan(read, str(path), application="app", wrong=[]) == PLAN
    with pytest.raises(PlanError) as caught:
        check_plan(read, str(path), application="other", wrong=["stage 1: GPU 9 is not in the cluster of 8"])
    assert [p.place for p in caught.value.problems] == ["application", "plan"]
