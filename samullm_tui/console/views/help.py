"""Help: what a screen shows, the keys that it knows, and what the glyphs mean."""

from __future__ import annotations

from collections.abc import Sequence

from textual.keys import format_key

from samullm_tui.console.actions import Action
from samullm_tui.console.layout.text import Line, fit, heading, wrap
from samullm_tui.console.views.common import STATUS

__all__ = ["ABOUT", "help_lines", "key_name", "palette_body"]

ABOUT = {
    "library": "Applications that can be planned and run, runs of this machine, and recordings. The status of a run "
    "is honest: running means that its supervisor was heard within seconds; interrupted means that it is gone and "
    "that the run can go on where it stopped.",
    "application": "What the application file says: which LLM is used at which node on which data, and which node "
    "takes the outputs of which. Problems come first; each names its place in the file and what would be right.",
    "lengths": "Output lengths that planning draws from. Left a histogram, right the share of answers shorter than a "
    "length. KS is the largest distance between a fitted curve and the measured one; smaller is better, as with AIC. "
    "Of a run: its answers against those expected for the same requests; a drift is said when such a distance happens "
    "in less than one of a hundred runs of the expected lengths.",
    "plans": "Plans ranked by their simulated makespan over draws of the output lengths: ├ is p10, █ the median, ┤ "
    "p90, ┊ a bound that no plan can beat. The chart shows GPUs over time; a stage lasts until some LLM is finished.",
    "whatif": "Type a number into a field: tp, replicas, GPUs (0-3,6), the stage in which the LLM starts. Every planner "
    "plans again keeping that, on the same draws: first a few of them, then all. Without pins is the best plan of the "
    "Plans screen.",
    "run": "How far the run is, what GPUs and LLMs do, the plan over what happened, and why the run went on as it did. "
    "left counts requests without a result yet, run those in flight. The console is only a client: leaving it, losing "
    "the connection or a crash of it does not touch the run.",
    "replay": "A recorded run: every screen of it at any moment. ◆ on the line at the top marks decisions.",
    "report": "The makespan as predicted and as it was. The plan is simulated again with the lengths that were observed, "
    "then with the pace of the engines, then with their loads: each part is what that changed, dispatch is the rest. "
    "Other plans are simulated with the same observations; nobody ran them.",
    "decision": "What the rescheduler saw, what each alternative would have meant by simulation, and what it chose.",
}
GLYPHS = (
    ("~", "simulated, not measured"),
    ("▒", "an LLM is being loaded"),
    ("·", "a GPU without work"),
    ("│", "now"),
    ("A B C", "LLMs: one letter and colour on every screen"),
    ("≈", "estimated: this LLM was never measured"),
)
SHOWN = {"pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End", "delete": "Del"}


def key_name(keys: str) -> str:
    """Textual's key names as they stand on a keyboard: `↑ k`, `^p`."""
    names = [
        SHOWN.get(key) or format_key(key).replace("ctrl+", "^").replace("shift+", "⇧")
        for key in keys.split(",")
    ]
    return " ".join(name.upper() if name.startswith("f") and name[1:].isdigit() else name for name in names)


def help_lines(screen: str, actions: Sequence[Action], width: int) -> list[Line]:
    """All lines of the help on one screen."""
    inner = width - 2
    lines: list[Line] = [[(line, "")] for line in wrap(ABOUT.get(screen, ""), min(inner, 100))]
    lines += [[], heading("Keys", inner)]
    # What is only known here first, moving about last.
    for action in sorted(actions, key=lambda action: not action.glyph):
        lines += _key(action, inner)
    lines += [[], heading("Signs", inner)]
    lines += [[(fit(f"  {glyph}", 10), "accent"), (meaning, "")] for glyph, meaning in GLYPHS]
    lines += [[(f"  {glyph:<8}", style), (status, "")] for status, (glyph, style) in STATUS.items()]
    return [[(" ", ""), *line] for line in lines]


def _key(action: Action, width: int) -> list[Line]:
    first, *rest = wrap(action.help, width - 28)
    head: Line = [
        (fit(f"  {key_name(action.keys)}", 9) + " ", "accent"),
        (fit(action.label, 16), "bold"),
        (first, ""),
    ]
    return [head, *[[(" " * 26, ""), (line, "")] for line in rest]]


def palette_body(actions: Sequence[Action], cursor: int, field: str, width: int, height: int) -> list[Line]:
    """A field to type in, and the commands that contain it."""
    lines: list[Line] = [[], [("  > ", "accent"), (field, "bold"), ("▏", "accent")], []]
    room = height - len(lines)
    top = max(0, min(cursor - room // 2, len(actions) - room))
    for i, action in enumerate(actions[top : top + room], top):
        style = " cursor" if i == cursor else ""
        text = fit(action.help, width - 32)
        lines.append(
            [
                ("  ▸ " if i == cursor else "    ", "accent" + style),
                (fit(action.label, 17), "bold" + style),
                (text, style.strip()),
                (fit(key_name(action.keys.split(",")[0]), 8, "right") + "   ", "dim" + style),
            ]
        )
    return lines if actions else [*lines, [("    nothing contains that", "dim")]]
