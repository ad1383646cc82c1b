"""The operator and the rescheduler: asking, answering a proposal, and what the screen says of a switch."""

from __future__ import annotations

import asyncio

import pytest
from textual.pilot import Pilot

from samullm_tui.console.layout.bands import Axis
from samullm_tui.console.layout.gantt import Chart, gantt_rows, marks_of
from samullm_tui.console.layout.text import plain
from samullm_tui.console.layout.window import Window
from samullm_tui.console.screens import base
from samullm_tui.console.views.run_charts import strips
from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.domain.event import AnyEvent, ForecastChanged, ProposalAnswered, RequestRetried
from samullm_tui.domain.plan import Band, Span
from samullm_tui.journal.state import fold
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import RUN, FakeSources, beginning, middle, proposed, switched


async def comes(pilot: Pilot[object], sources: FakeSources, *events: AnyEvent) -> str:
    """The run goes on: the screen polls its journal."""
    sources.tail_of_run.events += events
    run = next(s for s in pilot.app.screen_stack if hasattr(s, "_tick"))
    run._tick()
    await settle(pilot)
    return shown(pilot)


async def test_a_replan_is_asked_for_and_the_answer_shown(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "re-plan: a decision is on its way" in await press(pilot, "n")
        assert sources.calls == [("replan", RUN)]


@pytest.mark.parametrize(("key", "word", "answer"), [("a", "switch", "accept"), ("x", "stay", "refuse")])
async def test_a_proposal_is_answered_only_by_its_very_word(
    make_app: MakeApp, sources: FakeSources, key: str, word: str, answer: str
) -> None:
    sources.tail_of_run.events += proposed()
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = shown(pilot)
        assert "? switch: Llama-2-70b tp2 ×1 → ×3" in text
        assert "stays in 1m 00s" in text
        text = await press(pilot, key)
        assert "saves 1m 02s" in text
        assert "ends ~7m 11s with it, ~8m 13s with the plan as it is" in text
        assert "in 1m 00s" in text
        await press(pilot, *word[:-1], "enter")
        assert not sources.calls, "nothing starts by a slip"
        await press(pilot, word[-1], "enter")
        assert sources.calls == [("answer", RUN, 1, answer)]
        said = {"accept": "proposal 1: the plan is switched", "refuse": "proposal 1: the plan stays"}[answer]
        assert said in shown(pilot)


async def test_an_answer_gives_the_keys_back_by_itself_and_what_went_wrong_waits_for_a_key(
    make_app: MakeApp, sources: FakeSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MESSAGE_S", 0.001)
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "n")
        async with asyncio.timeout(10):
            while "n re-plan" not in (text := shown(pilot)):
                await pilot.pause(0.01)
        assert "re-plan:" not in text
        sources.refuse = RunError(Problem(RUN, "", "it does not answer"))
        assert "it does not answer" in await press(pilot, "n")
        await pilot.pause(0.1)
        assert "it does not answer" in shown(pilot)


async def test_requests_that_a_switch_sends_again_are_counted_and_no_alarm(
    make_app: MakeApp, sources: FakeSources
) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        alarm = "! 01:20 summarise book-9: prompt too long"
        assert alarm in shown(pilot)
        taken = RequestRetried(
            at_s=95.0, node="judge", id="7#2", replica="r", cause="not part of the new plan"
        )
        text = await comes(pilot, sources, taken)
        assert "not part of" not in text
        assert alarm in text
        assert "2 retried" in text


async def test_the_time_left_counts_down_and_an_expired_proposal_cannot_be_accepted(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.tail_of_run.events += proposed()
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        later = ForecastChanged(at_s=130.0, makespan_s=Band(500.0, 490.0, 500.0, 510.0))
        assert "stays in 18s" in await comes(pilot, sources, later)
        await press(pilot, "a")
        expired = ProposalAnswered(at_s=148.0, number=1, answer="expired", by="supervisor")
        await comes(pilot, sources, expired)
        text = await press(pilot, *"switch", "enter")
        assert "It is over: expired" in text
        assert not sources.calls
        text = await press(pilot, "escape")
        assert "? switch" not in text
        assert "a accept" not in text


async def test_what_the_supervisor_says_against_an_answer_is_shown(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.tail_of_run.events += proposed()
    sources.refuse = RunError(Problem(RUN, "", "there is no proposal 1 any more"))
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "there is no proposal 1 any more" in await press(pilot, "a", *"switch", "enter")


async def test_a_decision_says_what_was_compared_the_margin_and_what_came_of_it(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.tail_of_run.events += [*proposed(), *switched()]
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "so far −53s: Llama-2-70b" in shown(pilot)
        text = await press(pilot, "enter")
        for words in (
            "vicuna-13b has finished",
            "residual mean 371 tokens",
            "ends ~8m 13s",
            "−1m 02s",
            "−1m 02s on average (the ends above are medians); needed: over 10 s",
            "ends ~7m 20s: −53s against staying (predicted −1m 02s)",
        ):
            assert words in text


def test_the_chart_shows_the_plan_until_it_was_replaced_and_the_new_one_from_then_on() -> None:
    state = fold([*beginning(), *middle(), *proposed(), *switched()])
    marks = marks_of(list(state.llms))
    before = plain(strips(fold([*beginning(), *middle()]), marks, 107, Window())[1])
    plan = plain(strips(state, marks, 107, Window())[1])
    cut = 7 + round(93.0 / 429.0 * 100)
    assert plan[7:15] == before[7:15], "the past stays as it was planned"
    assert set(plan[cut + 5 : cut + 12]) == {"▒"}, "the new engines load"
    assert "A" not in plan[cut + 3 :], "the former plan ends where it was replaced"


def test_engines_that_go_on_through_a_switch_are_not_drawn_as_loading() -> None:
    chart = Chart(Axis(0.0, 100.0, 50), marks_of(["a"]))
    kept, fresh = Span("a", (0,), 40.0, 40.0, 90.0), Span("a", (1,), 40.0, 40.1, 90.0)
    rows = gantt_rows([kept, fresh], 2, chart)
    assert "▒" not in [glyph for glyph, _ in rows[0].cells]
    assert "▒" in [glyph for glyph, _ in rows[1].cells], "the shortest load is still seen"


async def test_the_log_holds_still_while_it_is_read_and_follows_again(
    make_app: MakeApp, sources: FakeSources
) -> None:
    def retried(k: int) -> RequestRetried:
        return RequestRetried(at_s=100.0 + k, node="summarise", id=f"late-{k}", replica="r", cause="slow")

    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "l")
        log = await comes(pilot, sources, *map(retried, range(30)))
        assert "late-29" in log, "at the end it follows"
        text = await press(pilot, "pageup")
        first = next(line for line in text.splitlines() if "again" in line)
        assert "held" in text
        text = await comes(pilot, sources, *map(retried, range(30, 60)))
        assert first in text, "what is read stays where it is"
        assert "late-59 waits" not in text
        text = await press(pilot, "end")
        assert "late-59 waits" in text
        assert "held" not in text


async def test_the_log_and_the_decisions_are_searched(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "l", "slash", *"cuda mem")
        assert "/cuda mem▏  1 found" in text
        assert "CUDA out of memory" in text
        assert "supervisor 4711" not in text
        await press(pilot, "q")
        assert pilot.app.return_value is None, "a letter is text while it is typed"
        assert "nothing contains that" in shown(pilot)
        await press(pilot, "backspace", "enter")
        assert "‖" not in await press(pilot, "l"), "the same words look through the decisions"
        assert "nothing contains that" in shown(pilot)
        text = await press(pilot, "escape")
        assert "the plan stays" in text
        await press(pilot, "slash", *"saves 31s", "enter", "enter")
        assert "3 of 3" in shown(pilot), "the decision that was found opens"
