"""What the console costs a link and a core, and how fast it answers: in a pseudo-terminal of 80×24, beside its budgets.

The run is made up (8 GPUs, 9 LLMs, `benchmarks/live_run.py`), its journal real and growing. A key's time ends when the
picture shows what it asks for. `--seconds` is how long each steady state is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from benchmarks.table import print_table
from benchmarks.terminal import Terminal

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = [sys.executable, "-c", "from samullm_tui.cli.main import main; main(['open'])"]
SLOW_BYTES_PER_S = 4096
SLOW_S = 20.0
FAST = 1000
CALM = 9
"""Events a second of a run that samples once a second and finishes eight requests."""

Row = tuple[str, str, str]


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.console_program", *arguments]


@contextmanager
def place() -> Iterator[dict[str, str]]:
    """An environment with no runs, and nothing of whoever measures."""
    with tempfile.TemporaryDirectory(prefix="samullm-bench-") as folder:
        homes = {"SAMULLM_HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}
        kept = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLORTERM"}}
        yield {**kept, **homes, "PYTHONPATH": str(ROOT)}


class Feed:
    """A run's journal that grows in a process of its own until `end`, which returns its requests and decisions."""

    def __init__(self, environment: dict[str, str], events_per_s: int) -> None:
        self._process = subprocess.Popen(
            program("feed", str(events_per_s)),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, int]:
        requests, decisions = self._process.communicate()[0].split()
        return int(requests), int(decisions)


@contextmanager
def live(events_per_s: int) -> Iterator[tuple[Terminal, Feed]]:
    """The console on a run of which so many events come each second, past its first pictures."""
    with place() as environment:
        feed = Feed(environment, events_per_s)
        with Terminal(program("run"), environment) as terminal:
            terminal.wait_for("● running")
            terminal.read(3.0)
            yield terminal, feed


def steady(seconds: float, events_per_s: int) -> tuple[float, float, int]:
    """Bytes a second and share of a core while events come; the bytes of ten seconds after the last."""
    with live(events_per_s) as (terminal, feed):
        cpu_s, began = terminal.cpu_s, time.monotonic()
        came = terminal.read(seconds)
        took = time.monotonic() - began
        cpu_s = terminal.cpu_s - cpu_s
        feed.end()
        terminal.read(2.0)
        return came / took, cpu_s / took, terminal.read(10.0)


def paused(seconds: float) -> int:
    """Bytes of a recording that is paused."""
    with (
        place() as environment,
        Terminal(
            [
                sys.executable,
                "-c",
                "from samullm_tui.cli.main import main; main(['replay', 'three-decisions'])",
            ],
            environment,
        ) as terminal,
    ):
        terminal.wait_for("▶ ")
        terminal.read(3.0)
        terminal.press(" ")
        terminal.wait_for("‖ ")
        terminal.read(1.0)
        return terminal.read(seconds)


def keys(count: int) -> list[float]:
    """Seconds from a key to its picture, `count` times, while events come."""
    times = []
    with live(FAST) as (terminal, feed):
        for _ in range(count // 2):
            for shown in ("Log", "Decisions"):
                terminal.read(0.13)
                terminal.press("l")
                times.append(terminal.wait_for(lambda text, shown=shown: f"{shown} ─" in text))  # type: ignore[misc]
        feed.end()
    return times


def slow_link() -> tuple[float, str]:
    """Seconds until the picture is up to date after a slow link has recovered, and what was lost on it."""
    with live(FAST) as (terminal, feed):
        terminal.read(SLOW_S / 2, SLOW_BYTES_PER_S)
        terminal.press("l")
        for _ in range(int(SLOW_S / 2)):
            # Every change of the theme is a whole picture: more than such a link takes.
            terminal.press("tt")
            terminal.read(1.0, SLOW_BYTES_PER_S)
        requests, decisions = feed.end()
        took = terminal.wait_for(lambda text: f" {requests:,} of" in text and "Log ─" in text)
        terminal.press("l")
        terminal.wait_for(f"decision {decisions}")
        return took, "nothing"


def first_paint(times: int) -> tuple[float, float]:
    """Median seconds from the start to the first picture: the library, a minimal application, in turn."""
    ours, least = [], []
    with place() as environment:
        for _ in range(times):
            for command, shown, into in ((LIBRARY, "samullm", ours), (program("minimal"), "minimal", least)):
                with Terminal(command, environment) as terminal:
                    terminal.wait_for(shown)
                    into.append(time.monotonic() - terminal.began_s)
    return median(ours), median(least)


def measured(seconds: float) -> Iterator[Row]:
    """(what, measured, to reach)."""
    for name, rate in (("at 1 Hz", CALM), ("at 1,000 events/s", FAST)):
        bytes_per_s, share, idle = steady(seconds, rate)
        calm = rate == CALM
        yield f"bytes/s, live {name}", f"{bytes_per_s:,.0f}", "≤ 5,000" if calm else ""
        yield f"CPU of a core, live {name}", f"{share:.1%}", "≤ 3 %" if calm else ""
        if calm:
            yield "bytes in 10 s without events", f"{idle:,}", "0"
    yield "bytes in 10 s, recording paused", f"{paused(10.0):,}", "0"
    times = keys(60)
    worst = f"{1000 * quantiles(times, n=20)[-1]:.0f} ms (median {1000 * median(times):.0f})"
    yield "key to picture, p95, at 1,000 events/s", worst, "≤ 100 ms"
    took, lost = slow_link()
    yield "picture up to date after 4 KB/s", f"{took:.2f} s, lost: {lost}", "≤ 2 s, nothing"
    ours, least = first_paint(7)
    yield "first paint of the library", f"{ours / least:.2f}× ({ours:.2f} s)", "≤ 1.6×"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    rows = list(measured(parser.parse_args().seconds))
    print_table("the console at 80×24", ("what", "measured", "to reach"), rows)


if __name__ == "__main__":
    main()
