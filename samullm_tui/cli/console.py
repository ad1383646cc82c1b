"""open, attach, replay: the console, and a recording without one."""

from __future__ import annotations

import math
import sys
import time
from argparse import Namespace
from pathlib import Path

from samullm_tui.cli.output import print_json, print_table
from samullm_tui.console.app import Start, run_console
from samullm_tui.console.sources import Settings
from samullm_tui.domain.errors import InputError, Problem, RunNotFoundError
from samullm_tui.journal.compressed import SUFFIX
from samullm_tui.journal.reader import journal_file
from samullm_tui.journal.state import state_sha256
from samullm_tui.journal.timeline import Timeline
from samullm_tui.locations import RECORDINGS, run_dir
from samullm_tui.supervisor.runs import list_runs, run_summary

__all__ = ["attach", "open_", "replay"]


def open_(arguments: Namespace) -> int:
    _needs_a_terminal()
    settings = Settings(
        cluster=arguments.cluster,
        engine=arguments.engine,
        seed=arguments.seed,
        speed="max" if math.isinf(arguments.speed) else arguments.speed,
        samples=arguments.samples,
        quantile=arguments.quantile,
    )
    if arguments.application is not None and not arguments.application.exists():
        raise InputError(
            Problem(str(arguments.application), "", "there is no such file", "an application file (TOML)")
        )
    start = Start(application=arguments.application, read_only=arguments.read_only, mouse=arguments.mouse)
    return run_console(start, settings)


def attach(arguments: Namespace) -> int:
    name = arguments.run or _latest()
    run_summary(name)
    _needs_a_terminal()
    return run_console(Start(run=name, read_only=arguments.read_only, mouse=arguments.mouse))


def _latest() -> str:
    runs = list_runs()
    if not runs:
        raise RunNotFoundError(Problem("", "", "there is no run yet", "`samullm-tui run APP` starts one"))
    return runs[0].run


def replay(arguments: Namespace) -> int:
    path = _recording(arguments.recording)
    journal_file(path)
    if not arguments.headless:
        _needs_a_terminal("--headless replays without one")
        return run_console(Start(recording=path, speed=arguments.speed, mouse=arguments.mouse))
    return _headless(path, arguments.speed, as_json=arguments.json)


def _recording(text: str) -> Path:
    """A path, the name of a run of this machine, or the name of a shipped recording."""
    if "/" not in text and not Path(text).exists():
        shipped = [RECORDINGS / f"{text}{ending}" for ending in (".jsonl", f".jsonl{SUFFIX}")]
        for candidate in (run_dir(text), *shipped):
            if candidate.exists():
                return candidate
    return Path(text)


def _headless(path: Path, speed: float, *, as_json: bool) -> int:
    """Folds the recording at its own pace times `speed`, and says what it comes to."""
    timeline = Timeline(path).whole()
    started = time.monotonic()
    for index in range(len(timeline)):
        due_s = 0.0 if math.isinf(speed) else timeline.at_s(index) / speed
        time.sleep(max(0.0, started + due_s - time.monotonic()))
    final = timeline.final
    outcome = {
        "events": len(timeline),
        "duration_s": timeline.duration_s,
        "status": final.status,
        "state_sha256": state_sha256(final),
        "decisions": sum(decision.number > 0 for _, decision in final.decisions),
    }
    if as_json:
        print_json(outcome)
    else:
        rows = [(key, str(value)) for key, value in outcome.items()]
        print_table(("recording", path.name), rows)
    return 0


def _needs_a_terminal(otherwise: str = "") -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            Problem("", "", "the console needs a terminal", otherwise or "verbs with --json need none")
        )
