"""The registry of everything an operator can do. Bindings, the key line, help and the palette all read it."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from textual.binding import Binding, BindingType
from textual.keys import Keys

__all__ = [
    "ACTIONS",
    "KEY_NAMES",
    "Action",
    "actions_of",
    "available",
    "bindings_of",
    "is_text",
    "only_looking",
]

KEY_NAMES = frozenset(key.value for key in Keys)
"""Keys with names of their own: those of characters are not among them."""

LISTS = ("library", "plans", "run", "replay", "palette", "help")
PANES = ("application", "lengths", "decision", "report", "whatif")
RUNS = ("run", "replay")
CHARTS = ("plans", "whatif", *RUNS)
MOVING = (*LISTS, "application", "decision", "report")


class Action(Struct, frozen=True):
    """`keys` are Textual's names, `glyph` is what the key line shows; no glyph keeps it off that line.

    `when` names the fact that a screen must state for the action to work now; empty: always. `changes`: it leads to a run
    that starts, ends or goes on otherwise.
    """

    id: str
    keys: str
    glyph: str
    label: str
    help: str
    screens: tuple[str, ...]
    when: str = ""
    changes: bool = False


def _a(
    keys: str,
    glyph: str,
    label: str,
    text: str,
    screens: tuple[str, ...] | str,
    *,
    changes: bool = False,
    **more: str,
) -> Action:
    where = (screens,) if isinstance(screens, str) else screens
    name = more.get("id", label.replace(" ", "_"))
    return Action(name, keys, glyph, label, text, where, more.get("when", ""), changes)


ACTIONS: tuple[Action, ...] = (
    _a("up,k", "", "up", "Move the cursor up, or scroll.", MOVING),
    _a("down,j", "", "down", "Move the cursor down, or scroll.", MOVING),
    _a("pageup", "", "page up", "Move or scroll a page up.", MOVING),
    _a("pagedown", "", "page down", "Move or scroll a page down.", MOVING),
    _a("home", "", "first", "Go to the first line.", tuple(x for x in MOVING if x != "replay")),
    _a("end", "", "last", "Go to the last line.", tuple(x for x in MOVING if x != "replay")),
    # Library
    _a("enter", "⏎", "open", "Open the selected application, run or recording.", "library", when="selected"),
    _a("slash", "/", "filter", "Show only what contains the text you type.", "library"),
    _a(
        "r",
        "r",
        "resume",
        "Go on with an interrupted run where it stopped.",
        ("library", "run"),
        when="resumable",
        changes=True,
    ),
    _a(
        "R",
        "R",
        "report",
        "Predicted against actual: where the error comes from, and what other plans would have taken.",
        ("library", "run", "replay"),
        when="ended",
    ),
    _a("v", "v", "replay", "Replay the run from its journal.", ("library", "run"), when="ended"),
    _a("f5", "", "reload", "Look for applications, runs and recordings again.", "library"),
    # Application
    _a(
        "p",
        "p",
        "plans",
        "Plan it: candidate plans, ranked by simulated makespan.",
        "application",
        when="loaded",
    ),
    _a("l", "l", "lengths", "How long each LLM's answers are likely to be.", "application", when="loaded"),
    # Lengths
    _a("right,tab", "←→", "LLM", "Show the next LLM.", "lengths", id="next_llm", when="loaded"),
    _a(
        "left,shift+tab",
        "",
        "previous LLM",
        "Show the previous LLM.",
        "lengths",
        id="previous_llm",
        when="loaded",
    ),
    _a("f", "f", "family", "Draw the next fitted family beside the empirical CDF.", "lengths", when="loaded"),
    _a("l", "l", "log axis", "Make the token axis logarithmic, or linear again.", "lengths", when="loaded"),
    _a("o", "o", "observed", "Draw the run's own curve, or the fitted family.", "lengths", when="seen"),
    # Plans
    _a(
        "a",
        "a",
        "approve",
        "Look at what starting the selected plan means, then start it.",
        "plans",
        when="approvable",
        changes=True,
    ),
    _a(
        "enter",
        "⏎",
        "stages",
        "The selected plan's stages in full, or its chart again.",
        "plans",
        when="planned",
    ),
    _a(
        "p",
        "p",
        "rank by",
        "Rank by the 90 % worst case instead of the median, or back.",
        "plans",
        when="planned",
    ),
    _a(
        "c", "c", "compare", "Keep this plan's chart below while you look at others.", "plans", when="planned"
    ),
    _a(
        "e",
        "e",
        "what-if",
        "Pin an LLM to a tp, a number of replicas, GPUs or a stage, and see the new makespan.",
        "plans",
        id="what_if",
        when="planned",
    ),
    # What if
    _a("up,k", "", "up", "The LLM above.", "whatif", when="choosing"),
    _a("down,j", "", "down", "The LLM below.", "whatif", when="choosing"),
    _a("right,tab", "←→", "field", "The next field.", "whatif", id="next_field", when="choosing"),
    _a(
        "left,shift+tab",
        "",
        "previous field",
        "The field before.",
        "whatif",
        id="previous_field",
        when="choosing",
    ),
    _a(
        "enter",
        "⏎",
        "pin",
        "Pin what was typed and plan anew; nothing typed: no pin.",
        "whatif",
        when="typing",
    ),
    _a("escape", "esc", "drop", "Leave the field as it was.", "whatif", when="typing"),
    _a("x,delete", "x", "unpin", "Take this pin away.", "whatif", when="pinned_here"),
    _a("X", "X", "unpin all", "Take all pins away.", "whatif", when="pinned"),
    _a(
        "a",
        "a",
        "approve",
        "Look at what starting this plan means, then start it.",
        "whatif",
        when="planned",
        changes=True,
    ),
    # Run and replay
    _a("a", "a", "approve", "Start the selected plan. Asks first.", "run", when="waiting", changes=True),
    _a(
        "space",
        "space",
        "pause",
        "Send no new requests; those in flight go on.",
        "run",
        when="running",
        changes=True,
    ),
    _a(
        "space",
        "space",
        "resume run",
        "Send requests again.",
        "run",
        id="unpause",
        when="paused",
        changes=True,
    ),
    _a(
        "a",
        "a",
        "accept",
        "Do what the rescheduler proposes. Asks first.",
        "run",
        when="proposed",
        changes=True,
    ),
    _a(
        "x",
        "x",
        "refuse",
        "Stay with the plan instead of what is proposed. Asks first.",
        "run",
        when="proposed",
        changes=True,
    ),
    _a(
        "n",
        "n",
        "re-plan",
        "Ask the rescheduler to think about the plan now; it switches only if that pays.",
        "run",
        id="replan",
        when="running",
        changes=True,
    ),
    _a(
        "d",
        "d",
        "drain",
        "Let requests in flight finish, then stop. Asks first.",
        "run",
        when="active",
        changes=True,
    ),
    _a(
        "s",
        "s",
        "stop",
        "Stop now; requests in flight are lost and run again on resume. Asks.",
        "run",
        when="active",
        changes=True,
    ),
    _a("space", "space", "play", "Play or pause.", "replay"),
    _a("right", "←→", "seek", "Seek forward by a fortieth of the recording.", "replay", id="forward"),
    _a("left", "", "seek back", "Seek back by a fortieth of the recording.", "replay", id="rewind"),
    _a("right_square_bracket", "[ ]", "speed", "Play twice as fast.", "replay", id="faster"),
    _a("left_square_bracket", "", "slower", "Play half as fast.", "replay"),
    _a("n", "n", "next decision", "Seek to the next decision.", "replay", when="more_decisions"),
    _a(
        "e",
        "e",
        "next error",
        "Seek to the next error of an engine, a GPU or a request.",
        "replay",
        when="more_errors",
    ),
    _a("home", "", "beginning", "Seek to the beginning.", "replay"),
    _a("end", "", "ending", "Seek to the end.", "replay"),
    _a(
        "enter",
        "⏎",
        "decision",
        "The selected decision: what was seen, compared and chosen.",
        RUNS,
        when="decided",
    ),
    _a("g", "g", "chart", "Plan and actual for each GPU, or the tables again.", RUNS, when="compact"),
    _a("l", "l", "log", "What happened, line by line, or the decisions again.", RUNS),
    _a(
        "slash",
        "/",
        "find",
        "Show only the lines, or decisions, that contain the words you type.",
        RUNS,
        when="listed",
    ),
    _a(
        "enter",
        "⏎",
        "keep",
        "Keep what was found, and go on with the keys.",
        RUNS,
        id="keep_filter",
        when="typing",
    ),
    _a("escape", "esc", "all lines", "Show everything again.", RUNS, id="clear_filter", when="filtered"),
    _a(
        "o",
        "o",
        "lengths",
        "Observed lengths of the answers so far against what was expected.",
        RUNS,
        when="answers",
    ),
    # Charts over time
    _a(
        "plus,equals_sign",
        "+ -",
        "zoom",
        "Zoom into the chart: at now, or what is in its middle.",
        CHARTS,
        id="zoom_in",
        when="charted",
    ),
    _a("minus", "", "zoom out", "See more of the chart's time.", CHARTS, when="zoomed"),
    _a("less_than_sign,comma", "< >", "move", "Earlier in the chart.", CHARTS, id="earlier", when="zoomed"),
    _a("greater_than_sign,full_stop", "", "later", "Later in the chart.", CHARTS, when="zoomed"),
    _a(
        "G",
        "",
        "more GPUs",
        "Chart the next GPUs where not all have room.",
        CHARTS,
        id="more_gpus",
        when="charted",
    ),
    # Decision
    _a("right,n", "←→", "next", "The next decision.", "decision"),
    _a("left", "", "previous", "The decision before.", "decision"),
    # Report
    _a(
        "e",
        "e",
        "export",
        "Write the report as one HTML file into the folder that you started in.",
        "report",
        when="reported",
    ),
    # Confirm, approve, palette
    _a(
        "enter", "⏎", "launch", "Launch the run, when the word is typed.", "approve", id="do_it", when="typed"
    ),
    _a("enter", "⏎", "do it", "Do it, when the word is typed.", "confirm", when="typed"),
    _a("enter", "⏎", "do", "Do the selected thing.", "palette", id="choose", when="selected"),
    # Everywhere
    _a(
        "y",
        "y",
        "copy",
        "Copy what is selected to your clipboard (OSC 52).",
        ("library", "lengths", "plans", "whatif", "report", *RUNS),
    ),
    _a(
        "escape",
        "esc",
        "cancel",
        "Stop waiting for the work that is under way.",
        ("lengths", "plans", "whatif"),
        when="working",
    ),
    _a(
        "escape",
        "esc",
        "back",
        "Back to where you came from. Nothing is stopped by that.",
        (
            "application",
            "lengths",
            "plans",
            "approve",
            "run",
            "replay",
            "decision",
            "report",
            "whatif",
            "help",
            "palette",
            "confirm",
        ),
        when="below",
    ),
    _a("t", "t", "theme", "The next theme.", (*LISTS[:4], *PANES, "help")),
    _a("question_mark", "?", "help", "What this screen shows, and its keys.", (*LISTS[:4], *PANES)),
    _a("ctrl+p", "^p", "commands", "Find a command by its name.", (*LISTS[:4], *PANES)),
    _a("q", "q", "quit", "Leave the console. Runs go on.", (*LISTS[:4], *PANES, "help")),
    _a(
        "ctrl+c",
        "",
        "interrupt",
        "Says how to leave; a run is never stopped by it.",
        (*LISTS, *PANES, "approve", "confirm"),
    ),
)


def is_text(key: str) -> bool:
    """Whether a key is a character: where a text is typed it is part of that."""
    return len(key) == 1 or key == "space" or key not in KEY_NAMES


def actions_of(screen: str, actions: Iterable[Action] = ACTIONS) -> tuple[Action, ...]:
    """Everything that screen knows, in the order of the key line. `actions`: with the operator's own keys."""
    return tuple(action for action in actions if screen in action.screens)


def only_looking(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Those that are left to somebody who may start and change nothing."""
    return tuple(action for action in actions if not action.changes)


def available(screen: str, facts: Iterable[str], actions: Iterable[Action] = ACTIONS) -> tuple[Action, ...]:
    """What works on that screen now."""
    known = set(facts)
    return tuple(action for action in actions_of(screen, actions) if not action.when or action.when in known)


def bindings_of(screen: str, actions: Iterable[Action] = ACTIONS) -> list[BindingType]:
    """Textual's bindings of a screen. Several may share a key: the first that is available wins."""
    return [
        Binding(action.keys, f"do('{action.id}')", action.label, show=False, id=f"{screen}.{action.id}")
        for action in actions_of(screen, actions)
    ]
