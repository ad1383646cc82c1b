"""How the pieces of benchmarks/gpu go on where they stopped, and what their tables are made of; no device is needed."""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from benchmarks.gpu import all as all_pieces
from benchmarks.gpu import makespan, sharing
from benchmarks.gpu.engines import Served
from benchmarks.gpu.pieces import Found, NotHere, Part, Piece, Table, main, read_part
from benchmarks.gpu.place import Place, _slug
from benchmarks.gpu.shapes import SHAPES, words
from benchmarks.gpu.sharegpt import draw_lengths
from benchmarks.gpu.verbs import last_object
from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.processes import alive
from samullm_tui.engines.protocol import GenerateRequest, Started
from samullm_tui.engines.step_log import EngineSetup
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.forecast.checkpoint import shape_from_config
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.latency.profile import Profile

CALLS: list[str] = []
SETUP = EngineSetup(
    max_num_seqs=8,
    max_num_batched_tokens=256,
    max_model_len=1024,
    block_size=16,
    kv_blocks=66,
    dtype="bfloat16",
    asynchronous=True,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A CPU rehearsal with its results and its cache under `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = tmp_path / "results"
    results.mkdir()
    CALLS.clear()
    return Place(
        device="cpu", sizes="small", results=results, work=tmp_path / "work", ends_s=time.monotonic() + 60
    )


def place_name() -> str:
    """What a rehearsal's folders are called here."""
    return _slug("cpu", "small")


def call(
    monkeypatch: pytest.MonkeyPatch, place: Place, parts: list[Part], *more: str, budget_s: float = 60
) -> Any:
    """Runs a piece of these parts; its exit status."""
    sizes = ("--device", "cpu", "--sizes", "small", "--results", str(place.results))
    monkeypatch.setattr(sys, "argv", ["piece", *sizes, "--budget-s", str(budget_s), *more])

    def table(_place: Place, found: Any) -> Table:
        return Table(
            "a table", ("part", "value"), [(name, str(part["value"])) for name, part in found.items()]
        )

    with pytest.raises(SystemExit) as ended:
        main(Piece("piece", "about it", lambda _: parts, table))
    return ended.value.code


def part(name: str, *, fails: Exception | None = None, needs_s: float = 0.0) -> Part:
    def measure() -> Found:
        CALLS.append(name)
        if fails is not None:
            raise fails
        return {"value": len(CALLS)}

    return Part(name, measure, needs_s)


def test_what_is_measured_is_not_measured_again_and_a_failure_is_a_row_and_not_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dies = EngineError(Problem("engine", "", "it died of a cause"))
    first = [part("one"), part("two", fails=dies), part("three", fails=ValueError("a bug")), part("four")]
    assert call(monkeypatch, place, first) == 1
    assert CALLS == ["one", "two", "three", "four"]
    assert "it died of a cause" in capsys.readouterr().out
    written = (place.results / "piece.md").read_text()
    assert "| one | 1 |" in written
    assert "| four | 4 |" in written
    assert "two: failed: engine: it died of a cause" in written
    assert "three: failed: ValueError: a bug" in written
    assert "a rehearsal in small sizes" in written
    again = [part(name) for name in ("one", "two", "three", "four")]
    assert call(monkeypatch, place, again) == 0
    assert CALLS == ["one", "two", "three", "four", "two", "three"]
    assert read_part(place, "piece", "one") == {"value": 1}


def test_no_part_is_begun_that_the_budget_does_not_hold(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, place, [part("long", needs_s=100), part("short", needs_s=1)], budget_s=20) == 1
    assert CALLS == ["short"]
    assert "long: not measured yet: it takes 100 s" in capsys.readouterr().out


def test_only_the_parts_that_are_asked_for_are_measured_and_what_became_of_the_others_stays_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [part("one", fails=ValueError("a bug")), part("two")]
    assert call(monkeypatch, place, two, "--only", "one") == 1
    assert call(monkeypatch, place, two, "--only", "two") == 0
    assert CALLS == ["one", "two"]
    assert "one: failed: ValueError: a bug" in (place.results / "piece.md").read_text()


def test_what_engines_logged_stands_beside_the_results_of_a_part_that_failed(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The machine with the GPU may be gone when somebody asks why."""
    logs = tmp_path / "cache" / "samullm-tui" / "gpu-benchmarks" / place_name() / "logs"
    logs.mkdir(parents=True)
    (logs / "before.log").write_text("of another part")
    os.utime(logs / "before.log", (1.0, 1.0))

    def dies() -> Found:
        (logs / "engine.log").write_text("CUDA error: no kernel image")
        raise EngineError(Problem("engine", "", "it died"))

    assert call(monkeypatch, place, [Part("a part", dies)]) == 1
    assert "failed: engine: it died (piece.a-part.log)" in capsys.readouterr().out
    assert (place.results / "piece.a-part.log").read_text() == "== engine.log\nCUDA error: no kernel image\n"
    assert call(monkeypatch, place, [part("a part")]) == 0
    assert not (place.results / "piece.a-part.log").exists()


def test_who_calls_off_all_pieces_calls_off_the_one_that_measures(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python, pid = tmp_path / "python", tmp_path / "pid"
    python.write_text(f"#!/bin/sh\necho $$ > {pid}.part && mv {pid}.part {pid} && exec sleep 1000\n")
    python.chmod(0o755)
    monkeypatch.setattr(all_pieces.sys, "executable", str(python))
    monkeypatch.setattr(all_pieces, "end_runs", lambda _: None)

    def call_off() -> None:
        while not pid.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    def called_off(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, called_off)
    try:
        Thread(target=call_off).start()
        with pytest.raises(KeyboardInterrupt):
            all_pieces._run(place, "sharing", [part("one")])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not alive(int(pid.read_text()))


def test_all_pieces_go_through_every_part(place: Place) -> None:
    went: Counter[str] = Counter()
    for name, which in all_pieces.ORDER:
        parts = importlib.import_module(f"benchmarks.gpu.{name}").PIECE.parts(place)
        went.update(f"{name} {one.name}" for one in parts[which])
    pieces = [importlib.import_module(f"benchmarks.gpu.{name}").PIECE for name in all_pieces.PIECES]
    assert went == Counter(f"{piece.name} {one.name}" for piece in pieces for one in piece.parts(place))


def test_what_a_device_cannot_do_is_no_failure(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, place, [part("one"), part("other", fails=NotHere("it has no memory"))]) == 0
    assert "other: not here: it has no memory" in (place.results / "piece.md").read_text()


def test_a_rehearsal_is_kept_apart_and_never_by_git() -> None:
    root = Path(__file__).parents[2]
    script = "from benchmarks.gpu.place import _slug; print(_slug('cpu', 'small'), _slug('cpu', 'full'))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    for name in done.stdout.split():
        ignored = subprocess.run(
            ["git", "check-ignore", "-q", f"benchmarks/results/{name}/x.json"], cwd=root, check=False
        )
        assert ignored.returncode != 1, name  # 128: this is no checkout


def test_the_makespan_table_holds_a_run_against_the_simulator(
    monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    """A 'measured' run that is the simulator's own, and one that took a tenth longer."""
    profile = Profile(iteration=IterationLatency((0.01, 0.001, 1e-5, *[0.0] * (len(COEFFICIENTS) - 3))))
    monkeypatch.setattr(makespan, "profile_of_shape", lambda *_: profile)
    prompt, output = draw_lengths(40, 1024, np.random.default_rng(0))
    run: Found = {
        "setup": msgspec.to_builtins(SETUP),
        "prompt": prompt.tolist(),
        "output": output.tolist(),
        "sent_s": [0.0] * 40,
    }
    # They reach the engine one by one, and in another order than they were sent.
    order = np.random.default_rng(1).permutation(40).tolist()
    run["arrivals"] = [(0.01 * k, int(prompt[i]), int(output[i])) for k, i in enumerate(order)]
    trace = makespan.simulated(run, profile, run["arrivals"])
    assert trace.preemptions > 0
    one_step = {"num_seqs": 1.0, "prefill_tokens": 0.0, "prefill_context": 0.0, "decode_seqs": 1.0}
    steps = {**one_step, "decode_context": 9.0, "latency_s": profile.iteration.seconds(1, 0, 0.0, 1, 9.0)}
    run |= {"steps": {name: [value] * trace.iterations for name, value in steps.items()}}
    run |= {"preemptions": trace.preemptions, "done_s": trace.finish_s.tolist()}
    slow = {**run, "done_s": (1.1 * trace.finish_s).tolist()}
    exact, later = makespan.table(place, {"exact": run, "later": slow}).rows
    assert exact[3] == "+0.0%"
    assert exact[4] != "+0.0%", "what arrived later is taken for what was sent at once"
    assert exact[5:] == (
        f"{trace.iterations:,}",
        f"{trace.iterations:,} (+0.0%)",
        f"{trace.preemptions} / {trace.preemptions}",
        "+0.0%",
    )
    assert later[3] == "-9.1%"


class Neighbour:
    """An engine whose steps take twice as long while another one works: it says so in its log of steps."""

    working: ClassVar[Counter[str]] = Counter()

    def __init__(self, name: str, steps: Path) -> None:
        self.replica, self.steps = Replica(name, (0,)), steps
        steps.with_name(steps.name + ".json").write_bytes(msgspec.json.encode(SETUP))
        steps.touch()

    async def generate(self, request: GenerateRequest) -> None:
        Neighbour.working[self.replica.llm] += 1
        try:
            await asyncio.sleep(0.01)
            step_s = 0.01 * len(+Neighbour.working)
            with self.steps.open("a") as file:
                tokens = request.prompt_tokens
                file.write(f"1,{tokens},{tokens},0,0,{step_s}\n" * 20)
        finally:
            Neighbour.working[self.replica.llm] -= 1

    async def failed(self) -> str:
        await asyncio.Event().wait()
        return ""


def test_the_sharing_table_says_how_much_slower_each_is_beside_the_other(
    monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    @asynccontextmanager
    async def serve(place: Place, name: str, *_: object, **__: object) -> AsyncIterator[Served]:
        steps = place.results / f"{name}.csv"
        yield Served(Neighbour(name, steps), Started(1.0), steps)  # type: ignore[arg-type]

    monkeypatch.setattr(sharing, "serve", serve)
    monkeypatch.setattr(sharing, "shape_folder", lambda *_: place.results)
    monkeypatch.setattr(sharing, "FOR_S", {"small": 0.3})
    found = run_scaled(sharing._measure(place), math.inf)
    rows = sharing.table(place, {"two LLMs": found}).rows
    assert [row[:2] for row in rows] == [
        (llm, phase) for llm in ("small-llama", "small-qwen3") for phase in ("decoding", "prompts")
    ]
    assert all(1.5 < float(slower) <= 2.0 for row in rows for slower in row[3:]), rows


def test_a_result_is_found_among_what_the_engine_logs_around_it() -> None:
    lines = (
        "INFO 11-21 [a.py:1] {",
        '{"tokens": 1}',
        '{"tokens": 2, "took_s": 3.0}',
        "(EngineCore) INFO ends",
        "7",
    )
    assert last_object("\n".join(lines)) == {"tokens": 2, "took_s": 3.0}
    with pytest.raises(EngineError, match="without a result"):
        last_object("INFO\n")


def test_drawn_lengths_are_sharegpts_and_fit_in_the_context() -> None:
    prompt, output = draw_lengths(20_000, 8192, np.random.default_rng(0))
    assert np.median(prompt) == pytest.approx(35, rel=0.05)
    assert np.median(output) == pytest.approx(286, rel=0.05)
    assert output.mean() == pytest.approx(326, rel=0.05)
    prompt, output = draw_lengths(1000, 512, np.random.default_rng(0))
    assert (prompt >= 1).all()
    assert (output >= 1).all()
    assert (prompt + output).max() <= 512


def test_the_shapes_are_those_of_the_checkpoints_that_they_are_named_after() -> None:
    sizes = {
        name: shape_from_config({**c, "max_position_embeddings": 8192}, name) for name, c in SHAPES.items()
    }
    billions = {"llama-3.1-8b": 8.03, "qwen3-32b": 32.8, "qwen3-30b-a3b": 30.5, "llama-3.2-1b": 1.24}
    for name, size in billions.items():
        assert sizes[name].params_b == pytest.approx(size, rel=0.005)
    assert (sizes["qwen3-30b-a3b"].experts, sizes["qwen3-30b-a3b"].experts_per_token) == (128, 8)


def test_every_vocabulary_is_of_words_of_three_letters_each_its_own() -> None:
    known = words(151_936)
    assert len(set(known)) == 151_936
    assert {len(word) for word in known[2:]} == {3}
    assert words(4096) == known[:4096]
