"""Every screen is reached, and left, by keys alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.console.sources import Vitals
from samullm_tui.domain.errors import ClusterError, Problem, RunError
from samullm_tui.domain.event import RunEnded
from tests.console.conftest import MakeApp, press, settle, shown
from tests.console.fakes import RUN, FakeSources, FakeTail, beginning, ending, middle

APP = Path("/apps/chain-summary.toml")


async def test_the_library_shows_applications_runs_and_recordings_with_honest_states(
    make_app: MakeApp,
) -> None:
    async with make_app().run_test() as pilot:
        await settle(pilot)
        text = shown(pilot)
        for words in (
            "chain-summary",
            "2 problems",
            f"{RUN[:20]}",
            "interrupted 43 %",
            "✓ 1120-ensembling",
            "recorded-run",
        ):
            assert words in text


async def test_a_broken_application_names_every_problem_with_its_place(make_app: MakeApp) -> None:
    async with make_app().run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "home", "enter")
        assert "nodes.judge.llm: there is no LLM 'Llama-2-7b'" in text
        assert "at least 1" in text
        assert " plans" not in text.splitlines()[-1], "what cannot be planned has no key for it"
        assert "Library" in (await press(pilot, "escape")).splitlines()[0]


async def test_from_the_library_to_a_started_run(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app().run_test() as pilot:
        await settle(pilot)
        assert "1,873 requests" in await press(pilot, "down", "enter")
        assert "no plan can beat" in await press(pilot, "p")
        assert "Start plan 2 (min-heuristic)" in await press(pilot, "down", "a")
        assert not sources.calls
        assert "⏎ launches" in await press(pilot, *"start")
        assert f"{RUN}  ● running" in await press(pilot, "enter")
        assert sources.calls == [("launch", "chain-summary.toml", 2)]
        assert "Plans" in await press(pilot, "escape")


@pytest.mark.parametrize("typed", ["", "s", "star", "startt", "START"])
async def test_nothing_starts_unless_the_very_word_is_typed(
    make_app: MakeApp, sources: FakeSources, typed: str
) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        assert "Type start" in await press(pilot, "p", "a", *typed, "enter")
        assert not sources.calls


async def test_a_launch_that_fails_says_why_and_leaves_the_question(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.refuse = RunError(Problem("x", "nodes.answer", "no space left on device", "make room " * 9))
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "p", "a", *"start", "enter")
        assert "no space left on device" in text
        assert "Type start" in text
        assert "nodes.answer" in text
        assert text.count("make room") == 9, "nothing is cut off"


async def test_planning_can_be_given_up(make_app: MakeApp, sources: FakeSources) -> None:
    sources.planning_may_end.clear()
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await pilot.press("p")
        await pilot.pause()
        assert "planning …" in shown(pilot)
        assert "esc cancel" in shown(pilot)
        assert "Graph" in await press(pilot, "escape")
        assert sources.cancelled


async def test_who_wants_to_start_before_it_is_planned_comes_there_when_it_is(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.planning_may_end.clear()
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await pilot.press("p")
        await pilot.pause()
        theme = pilot.app.look.name
        await pilot.press("a", *"start", "enter")
        await pilot.pause()
        assert "as soon as there is a plan" in shown(pilot)
        assert "planning …" in shown(pilot)
        assert pilot.app.look.name == theme, "letters typed too early do nothing"
        sources.planning_may_end.set()
        await settle(pilot)
        assert "Type start" in shown(pilot)
        assert not sources.calls, "nor do they start anything"
        assert f"{RUN}  ● running" in await press(pilot, *"start", "enter")


async def test_plans_are_ranked_compared_and_told_in_full(make_app: MakeApp) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "p")
        assert "p90" in (await press(pilot, "p")).splitlines()[1]
        await press(pilot, "c")
        text = await press(pilot, "down")
        assert "Plan 2 min-heuristic" in text
        assert "Plan 1 greedy" in text
        assert "Stage 1  ~0s to" in await press(pilot, "enter")


async def test_lengths_go_through_llms_families_and_scales(make_app: MakeApp) -> None:
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        assert "vicuna-13b  1 of 2" in await press(pilot, "l")
        assert "Llama-2-70b  2 of 2" in await press(pilot, "right")
        assert "log scale" in await press(pilot, "l")
        before = shown(pilot)
        assert before != await press(pilot, "f")


async def test_a_runs_lengths_stand_against_those_expected(
    make_app: MakeApp, sources: FakeSources, recording: Path
) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "o")
        assert sources.calls == [("lengths", recording.name, None)]
        for words in (
            "1,194 of 1,473 answers, 96 running",
            "mean 238 (+11 %)",
            "drift: yes, KS 0.07",
            "┄ this run",
        ):
            assert words in text
        assert "┄ this run" not in await press(pilot, "o")
        assert "drift: no, KS 0.02" in await press(pilot, "right")
    async with make_app(recording=recording, playing=False).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "n", "n", "o")
        assert sources.calls[-1] == ("lengths", recording.name, 70.0)


async def test_a_run_is_paused_drained_and_stopped_only_after_a_question(
    make_app: MakeApp, sources: FakeSources
) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "space")
        assert sources.calls == [("control", RUN, "pause")]
        text = await press(pilot, "s")
        assert "400 outputs are kept, 1,472 requests are left" in text
        await press(pilot, "enter")
        await press(pilot, "escape")
        assert len(sources.calls) == 1
        assert "stop: its engines end" in await press(pilot, "s", *"stop", "enter")
        assert "drain: draining" in await press(pilot, "d", *"drain", "enter")
        assert [call[-1] for call in sources.calls] == ["pause", "stop", "drain"]


async def test_what_a_supervisor_refuses_is_said(make_app: MakeApp, sources: FakeSources) -> None:
    sources.refuse = RunError(Problem(RUN, "", "its supervisor does not answer"))
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "does not answer" in await press(pilot, "space")


async def test_a_run_without_a_supervisor_is_interrupted_and_resumable(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.vitals_of_run = Vitals(alive=False)
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = shown(pilot)
        assert "! interrupted" in text
        assert "drain" not in text.splitlines()[-1]
        await press(pilot, "r")
        assert sources.calls == [("resume", RUN)]


async def test_an_ended_run_stays_ended_without_a_supervisor(make_app: MakeApp, sources: FakeSources) -> None:
    sources.vitals_of_run = Vitals(alive=False)
    sources.tail_of_run = FakeTail(
        [*beginning(), *middle(), RunEnded(at_s=99.0, status="failed", cause="no GPU left")]
    )
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "✗ failed" in shown(pilot)
        assert "! no GPU left" in shown(pilot)
        assert "failed: no GPU left" in await press(pilot, "l")


async def test_an_ended_run_says_how_to_get_its_outputs(make_app: MakeApp, sources: FakeSources) -> None:
    sources.tail_of_run = FakeTail([*beginning(), *middle(), *ending()])
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert f"samullm-tui export {RUN} -o OUT.jsonl" in shown(pilot)
        assert " 94 " not in shown(pilot), "nobody measures a GPU of a run that is over"


async def test_a_cluster_that_does_not_exist_is_said_not_thrown(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.place_error = ClusterError(Problem("b200:8", "", "unknown cluster preset 'b200'"))
    async with make_app().run_test() as pilot:
        await settle(pilot)
        assert "unknown cluster preset 'b200'" in shown(pilot)
        assert "unknown cluster preset" in await press(pilot, "down", "enter")


async def test_what_keeps_a_supervisor_from_recording_is_shown(
    make_app: MakeApp, sources: FakeSources
) -> None:
    sources.vitals_of_run = Vitals(alive=True, trouble="cannot record: no space left on /data")
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "! cannot record: no space left on /data" in shown(pilot)


async def test_a_run_that_waits_is_approved_after_a_question(make_app: MakeApp, sources: FakeSources) -> None:
    sources.tail_of_run = FakeTail(beginning())
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "waiting for approval" in shown(pilot)
        text = await press(pilot, "down", "a")
        assert "Plan 2 (min-heuristic)" in text
        await press(pilot, *"start", "enter")
        assert sources.calls == [("approve", RUN, 2)]


async def test_decisions_open_with_what_was_seen_compared_and_chosen(make_app: MakeApp) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "enter")
        for words in ("3 of 3", "9 % slower", "◀", "not simulated", "from ~7m 41s to ~7m 11s"):
            assert words in text
        assert "2 of 3" in await press(pilot, "left")


async def test_chart_and_log_replace_tables_and_decisions(make_app: MakeApp) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "simulated engines" in await press(pilot, "g")
        assert "CUDA out of memory" in await press(pilot, "l", "up")
        assert "g chart" in shown(pilot)
    async with make_app(run=RUN).run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert "g chart" not in shown(pilot), "tables and charts are both there already"


async def test_the_replay_seeks_steps_and_changes_speed(make_app: MakeApp, recording: Path) -> None:
    async with make_app(recording=recording, playing=False).run_test() as pilot:
        await settle(pilot)
        assert "‖ 00:00" in shown(pilot)
        assert "01:10" in await press(pilot, "n", "n")
        assert "the plan stays" in shown(pilot)
        assert "01:21" in await press(pilot, "right")
        assert "01:10" in await press(pilot, "left")
        assert "×4" in await press(pilot, "right_square_bracket", "right_square_bracket")
        assert "✓ succeeded" in await press(pilot, "end")
        assert "next decision" not in shown(pilot)
        assert "‖ 00:00" in await press(pilot, "home")


async def test_a_recording_that_cannot_be_read_says_so(make_app: MakeApp, tmp_path: Path) -> None:
    bad = tmp_path / "no-journal.jsonl"
    bad.write_text("this is no journal\n")
    async with make_app(recording=bad).run_test() as pilot:
        await settle(pilot)
        assert "not a journal" in shown(pilot)


async def test_the_filter_narrows_the_library_and_escape_widens_it(make_app: MakeApp) -> None:
    async with make_app().run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "slash", *"interru")
        assert "1119-mixed" in text
        assert "1120-ensembling" not in text
        assert "nothing contains that" in await press(pilot, *"zzz")
        assert "1120-ensembling" in await press(pilot, "escape")


async def test_help_and_palette_know_what_works_here(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        text = await press(pilot, "question_mark")
        assert "Send no new requests" in text
        await press(pilot, "escape")
        assert "replay" not in await press(pilot, "ctrl+p"), "the run has not ended: nothing to replay yet"
        await press(pilot, *"pause", "enter")
        assert sources.calls == [("control", RUN, "pause")]


async def test_a_small_terminal_gets_a_notice_and_comes_back(make_app: MakeApp) -> None:
    async with make_app(run=RUN).run_test(size=(59, 20)) as pilot:
        await settle(pilot)
        notice = "".join(text for line in pilot.app.screen.notice_pane.lines for text, _ in line)  # type: ignore[attr-defined]
        assert "59×20 is too small: needs 60×15" in notice
        await pilot.resize_terminal(60, 15)
        await settle(pilot)
        assert "running" in shown(pilot)


async def test_ctrl_c_stops_nothing_and_says_how_to_leave(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        assert "q leaves the console" in await press(pilot, "ctrl+c")
        assert not sources.calls
        await pilot.press("q")
        await pilot.pause()
        assert pilot.app.return_value == 0


async def test_y_copies_the_run_and_the_command_of_a_plan(make_app: MakeApp) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "y")
        assert pilot.app.clipboard == RUN
    async with make_app(application=APP).run_test() as pilot:
        await settle(pilot)
        await press(pilot, "p", "down", "y")
        assert "--rank 2 -o PLAN.json" in pilot.app.clipboard
