"""What `run` prints of a plan that changes while the run goes on, and its options."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from samullm_tui.cli import following
from samullm_tui.cli.arguments import parse
from samullm_tui.cli.following import _WORDS, Follower
from samullm_tui.domain.event import (
    Alternative,
    AnyEvent,
    ControlReceived,
    Decided,
    Decision,
    GpuQuarantined,
    Outcome,
    ProposalAnswered,
    Proposed,
)

OPTIONS = (Alternative("stay", 418.0, 0.0), Alternative("B \u00d72", 380.0, 22.0))
SWITCH = Decision(
    "switch", "B \u00d72: saves 38s, costs 22s", "A finished", OPTIONS, 1, number=3, gain_s=38.0
)
KEEP = Decision("keep", "the plan stays", "A finished", OPTIONS, 0, number=4)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            Decided(at_s=251.0, decision=SWITCH),
            "switch 3: B \u00d72: saves 38s, costs 22s; ends ~6m 20s instead of ~6m 58s (A finished)",
        ),
        (Decided(at_s=251.0, decision=KEEP), "keep 4: the plan stays; ends ~6m 58s (A finished)"),
        (
            Proposed(at_s=251.0, number=3, decision=SWITCH, deadline_s=311.0),
            "proposal 3: B \u00d72: saves 38s, costs 22s; the plan stays unless it is accepted by 5m 11s",
        ),
        (ProposalAnswered(at_s=260.0, number=3, answer="expired", by="x"), "proposal 3 expired by x"),
        (
            Outcome(at_s=387.0, number=3, predicted_s=380.0, ended_s=387.0, stay_s=418.0, final=True),
            "what came of switch 3: the run ended at 6m 27s (~6m 20s was predicted, ~6m 58s without it)",
        ),
        (GpuQuarantined(at_s=1.0, gpu=3, cause="in use"), "GPU 3 gets no engine any more: in use"),
    ],
)
def test_a_decision_is_told_in_a_line_with_its_numbers(event: AnyEvent, line: str) -> None:
    assert _WORDS[type(event)](event) == line


def test_the_plan_changes_by_itself_unless_told_otherwise() -> None:
    assert parse(["run", "a.toml"]).replan == "auto"
    asked = parse(["run", "a.toml", "--replan", "ask", "--replan-wait", "5"])
    assert (asked.replan, asked.replan_wait) == ("ask", 5.0)
    for wrong in (["--replan", "maybe"], ["--replan-wait", "0"], ["--replan-wait", "nan"]):
        with pytest.raises(SystemExit) as error:
            parse(["run", "a.toml", *wrong])
        assert error.value.code == 2


class Finalizer:
    """Is interrupted where Python drops exceptions."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_ctrl_c_that_python_drops_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def events(_: str) -> Iterator[AnyEvent]:
        Finalizer()
        yield ControlReceived(at_s=0.0, command="drain", by="somebody")

    monkeypatch.setattr(following, "follow", events)
    follower = Follower("no-such-run")
    monkeypatch.setattr(follower, "_interrupted", lambda: asked.append(1))
    asked: list[int] = []
    follower.to_the_end()
    assert asked == [1]
