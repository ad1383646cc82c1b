"""What a long recording costs: until its first picture, until all of it is read, and to seek in it.

The recording is made up (8 GPUs, 9 LLMs, `benchmarks/live_run.py`): a run's folder with its closed segments, as long runs
leave them. Wall times are those of this machine as busy as it is; processor seconds are told beside them.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import psutil

from benchmarks.bench_console import place
from benchmarks.live_run import opening, second
from benchmarks.table import print_table
from benchmarks.terminal import Terminal
from samullm_tui.domain.event import AnyEvent
from samullm_tui.journal.reader import JOURNAL, read_events
from samullm_tui.journal.state import fold
from samullm_tui.journal.timeline import Timeline
from samullm_tui.journal.writer import JournalWriter

FINISHED_EACH_S = 49
GROUP_EVENTS = 8192
SEEKS = 300
REPLAY = "import sys; from samullm_tui.cli.main import main; main(['replay', sys.argv[1]])"
POSITION = re.compile(r"[▶‖] ([\d:]+) .* ([\d:]+)( read so far …)?  ×")
MIB = 1024**2

HOME, END, RIGHT = "\x1b[H", "\x1b[F", "\x1b[C"

Row = tuple[str, str, str]
Way = tuple[str, Callable[[str], bool]]


def events(count: int) -> Iterator[AnyEvent]:
    """At least `count` of them, whole seconds of a run."""
    made = opening()
    yield from made
    number, sent = 1, len(made)
    while sent < count:
        made = second(number, FINISHED_EACH_S)
        yield from made
        number, sent = number + 1, sent + len(made)


def record(folder: Path, count: int) -> None:
    folder.mkdir()
    with JournalWriter(folder / JOURNAL, group_events=GROUP_EVENTS) as journal:
        for event in events(count):
            if journal.append(event) % GROUP_EVENTS == 0:
                journal.flush()


def spread(seconds: list[float]) -> str:
    ms = sorted(1000 * one for one in seconds)
    return f"{median(ms):.0f} / {quantiles(ms, n=20)[-1]:.0f} / {ms[-1]:.0f} ms"


def in_memory(folder: Path) -> Iterator[Row]:
    """Reading all of it, and seeking, without a console."""
    process = psutil.Process()
    before, began, cpu_s = process.memory_info().rss, time.monotonic(), time.process_time()
    timeline = Timeline(folder).whole()
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    grown = (process.memory_info().rss - before) / MIB
    yield f"{len(timeline):,} events read", f"{took_s:.1f} s ({cpu_s:.1f} s of a processor)", ""
    yield "memory for that", f"{grown:.0f} MiB", ""
    times = []
    for index in np.random.default_rng(0).integers(0, len(timeline), SEEKS).tolist():
        began = time.monotonic()
        timeline.state_at(index)
        times.append(time.monotonic() - began)
    yield "state at a random event, p50 / p95 / worst", spread(times), ""
    began = time.monotonic()
    fold(read_events(folder))
    again_s = time.monotonic() - began
    yield (
        "folding all from the start instead",
        f"{again_s:.1f} s: {again_s / median(times):,.0f} times a seek",
        "",
    )


def position(text: str) -> tuple[str, str, bool]:
    """Where the replay is, where the recording ends, and whether it is still being read."""
    found = POSITION.search(text)
    return (found[1], found[2], bool(found[3])) if found else ("", "", True)


def at_end(text: str) -> bool:
    here, end, reading = position(text)
    return here == end and not reading


def at_beginning(text: str) -> bool:
    return position(text)[0] == "00:00"


def past_beginning(text: str) -> bool:
    return not at_beginning(text)


def in_a_terminal(folder: Path) -> Iterator[Row]:
    """What the operator sees at 80×24."""
    with (
        place() as environment,
        Terminal([sys.executable, "-c", REPLAY, str(folder)], environment) as terminal,
    ):
        terminal.wait_for(lambda text: bool(position(text)[0]), 120.0)
        yield "from the start of the program to the first picture", since(terminal), "≤ 2 s"
        terminal.press(" ")
        times = list(seeks(terminal, ((HOME, at_beginning), (RIGHT, past_beginning)), 10))
        reading = position(terminal.picture.text)[2]
        yield f"key to picture {'while' if reading else 'after'} it is read", spread(times), "≤ 300 ms"
        terminal.wait_for(lambda text: not position(text)[2], 120.0)
        yield "until all of it is read", since(terminal), ""
        times = list(seeks(terminal, ((END, at_end), (HOME, at_beginning)), 20))
        yield "seek from one end to the other, key to picture", spread(times), "≤ 300 ms"


def since(terminal: Terminal) -> str:
    return f"{time.monotonic() - terminal.began_s:.2f} s ({terminal.cpu_s:.2f} s of a processor)"


def seeks(terminal: Terminal, ways: Sequence[Way], times: int) -> Iterator[float]:
    """Seconds from each key to its picture."""
    for _ in range(times):
        for key, shown in ways:
            terminal.press(key)
            yield terminal.wait_for(shown)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    with place() as environment:
        folder = Path(environment["SAMULLM_HOME"]) / "recorded"
        record(folder, parser.parse_args().events)
        rows = [*in_memory(folder), *in_a_terminal(folder)]
    print_table("a long recording (p50 / p95 / worst)", ("what", "measured", "to reach"), rows)


if __name__ == "__main__":
    main()
