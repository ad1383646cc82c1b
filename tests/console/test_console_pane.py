"""What did not change is not sent to the terminal again."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from textual._compositor import Compositor

from samullm_tui.console.layout.text import Line, pad_line
from samullm_tui.console.widgets.pane import WORTH_A_JUMP, Pane, changed_spans
from tests.console.conftest import MakeApp, press, settle
from tests.console.fakes import RUN, FakeSources, done

STYLES = st.sampled_from(["", "dim", "bad"])
LINES = st.lists(st.tuples(st.text("ab─中国é▒", max_size=8), STYLES), max_size=5).map(
    lambda line: pad_line(line, 20)
)


def cells(line: Line) -> list[tuple[str, int, str]]:
    """Every character with its style, wide ones as two halves."""
    from rich.cells import cell_len

    return [(c, half, style) for text, style in line for c in text for half in range(cell_len(c))]


@given(LINES, LINES)
@example([("a中b", "")], [("a国b", "")])
@example([("1" + 17 * "─" + "2", "")], [("3" + 17 * "─" + "4", "")])
def test_the_changed_spans_hold_every_difference_and_no_long_equal_part(before: Line, after: Line) -> None:
    spans = changed_spans(before, after)
    old, new = cells(before), cells(after)
    inside = {i for first, end in spans for i in range(first, end)}
    assert all(old[i] == new[i] for i in range(len(old)) if i not in inside)
    for first, end in spans:
        assert old[first] != new[first]
        assert old[end - 1] != new[end - 1]
        same = "".join("=" if a == b else "≠" for a, b in zip(old[first:end], new[first:end], strict=True))
        assert "=" * WORTH_A_JUMP not in same


class Painted:
    """Counts what is painted."""

    def __init__(self) -> None:
        self.regions: list[object] = []

    def __enter__(self) -> Painted:
        render = Compositor.render_update

        def counted(compositor: Compositor, *args: object, **kwargs: object) -> object:
            self.regions += compositor._dirty_regions
            return render(compositor, *args, **kwargs)  # type: ignore[arg-type]

        self._patch = patch.object(Compositor, "render_update", counted)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


async def test_nothing_is_painted_while_nothing_happens(make_app: MakeApp) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        screen = pilot.app.screen
        with Painted() as painted:
            for _ in range(6):
                screen._tick()  # type: ignore[attr-defined]
                await settle(pilot)
        assert not painted.regions


async def test_one_finished_request_paints_a_few_cells(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        sources.tail_of_run.events.append(done(900, 89.0))
        with Painted() as painted:
            pilot.app.screen._tick()  # type: ignore[attr-defined]
            await settle(pilot)
        cells = sum(region.area for region in painted.regions)  # type: ignore[attr-defined]
        assert 0 < cells < 120


async def test_a_covered_screen_paints_nothing(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        run = pilot.app.screen
        await press(pilot, "question_mark")
        sources.tail_of_run.events.append(done(900, 89.0))
        with Painted() as painted:
            run._tick()  # type: ignore[attr-defined]
            await settle(pilot)
        assert not painted.regions
        assert "402 of 1,873" in await press(pilot, "escape"), "and shows what came in when it is back"


async def test_a_lost_focus_slows_the_polling(make_app: MakeApp, sources: FakeSources) -> None:
    async with make_app(run=RUN).run_test() as pilot:
        await settle(pilot)
        pilot.app.app_focus = False
        polls: list[int] = []
        with patch.object(sources.tail_of_run, "poll", lambda _: polls.append(1) or []):
            for _ in range(20):
                pilot.app.screen._tick()  # type: ignore[attr-defined]
                await settle(pilot)
        assert 1 <= len(polls) <= 4


@pytest.mark.parametrize("lines", [[], [[("x" * 200, "")]], [[("y", "bad")]] * 50])
async def test_a_pane_takes_too_few_and_too_many_lines(make_app: MakeApp, lines: list[Line]) -> None:
    app = make_app()
    pane = Pane(lambda width, height: lines, lambda: app.look)
    async with app.run_test() as pilot:
        await app.screen.mount(pane)
        await settle(pilot)
        assert {pane.render_line(y).cell_length for y in range(pane.size.height)} == {pane.size.width}
