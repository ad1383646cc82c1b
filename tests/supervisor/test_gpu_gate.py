"""Promise 10: no engine starts on a GPU that others use or that did not give its memory back."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest
from scripted_engine import Outcome, Script, candidate_of, run_bench, state_of, table_of

from samullm_tui.domain.event import (
    AnyEvent,
    Decided,
    EngineFailed,
    EngineStarting,
    GpuQuarantined,
    GpuSample,
    SupervisorStarted,
)
from samullm_tui.domain.plan import Candidate, Placement, Replica
from samullm_tui.engines.virtual_time import run_scaled
from samullm_tui.journal.state import fold
from samullm_tui.supervisor.gpu_gate import PATIENCE_S, GpuGate, GpuTakenError

GIB = 1024**3
A0, B1 = Placement("a", 1, 1, (0,)), Placement("b", 1, 1, (1,))
Used = Callable[[int, float], float | None]
"""GiB in use on a GPU, of 80, at a time; None: not known."""


def gate_of(used: Used) -> GpuGate:
    def samples() -> tuple[GpuSample, ...]:
        now_s = asyncio.get_running_loop().time()
        known = [used(gpu, now_s) for gpu in range(2)]
        return tuple(
            GpuSample(
                gpu, memory_used_bytes=None if gib is None else int(gib * GIB), memory_total_bytes=80 * GIB
            )
            for gpu, gib in enumerate(known)
        )

    return GpuGate(samples)


def run(used: Used, candidate: Candidate | None = None) -> Outcome:
    """Three requests each of `a` on GPU 0 and `b` on GPU 1."""
    table = table_of("ab", [*[("a", ())] * 3, *[("b", ())] * 3])
    return run_bench(
        state_of(table, candidate or candidate_of(([A0, B1], "ab"))), Script(), gate=gate_of(used)
    )


def quarantined(outcome: Outcome) -> dict[int, str]:
    return {event.gpu: event.cause for event in outcome.tape.of(GpuQuarantined)}  # type: ignore[attr-defined]


def saw(outcome: Outcome) -> list[str]:
    return [event.decision.saw for event in outcome.tape.of(Decided)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("gib", [0.0, 0.6, 3.9, None])
def test_a_gpu_that_is_idle_or_tells_nothing_gets_its_engine_at_once(gib: float | None) -> None:
    outcome = run(lambda *_: gib)
    assert outcome.end.status == "succeeded"
    assert {event.at_s for event in outcome.tape.of(EngineStarting)} == {0.0}
    assert outcome.world.starts == {"a.0": 1, "b.1": 1}
    assert not any("in use" in text for text in saw(outcome))


def test_an_engine_waits_for_memory_that_comes_back_and_says_so() -> None:
    outcome = run(lambda gpu, now_s: 30.0 if gpu == 0 and now_s < 40.0 else 0.0)
    assert outcome.end.status == "succeeded"
    assert quarantined(outcome) == {}
    waits = [text for text in saw(outcome) if "in use" in text]
    assert waits == ["GPU 0: 30.0 of its 80.0 GiB are in use, by nothing of this run"]
    assert outcome.world.started_s == [("b.1", 0.0), ("a.0", 40.0)]


def test_a_gpu_that_stays_in_use_is_quarantined_with_a_reason_and_the_others_go_on() -> None:
    outcome = run(lambda gpu, _: 12.5 * gpu)
    cause = f"12.5 of its 80.0 GiB are in use after {PATIENCE_S:.0f} s of waiting, and no engine of this run is on it"
    assert quarantined(outcome) == {1: cause}
    assert "b.1" not in outcome.world.starts, "the engine was never started"
    assert [row.llm for row in outcome.tape.outputs] == ["a"] * 3
    assert {row.error for row in outcome.tape.errors} == {f"engine gave up: GPU 1: {cause}"}
    assert [event.gave_up for event in outcome.tape.of(EngineFailed)] == [True]  # type: ignore[attr-defined]
    assert outcome.end.status == "failed"


def test_what_a_dead_engine_left_is_waited_for_before_the_next_start() -> None:
    """Engines die all the time, and each leaves its memory behind for ten seconds."""
    table = table_of("a", [("a", ())] * 40)
    died: list[float] = []

    def used(gpu: int, now_s: float) -> float:
        return 70.0 if any(at_s <= now_s < at_s + 10.0 for at_s in died) else 0.0

    def watch(state: object) -> None:
        if any(e.status == "stopping" for e in state.engines.values()):  # type: ignore[attr-defined]
            died.append(asyncio.get_running_loop().time())

    script = Script(seed=3, dies_within_s=15.0, request_s=3.0)
    outcome = run_bench(state_of(table, candidate_of(([A0], "a"))), script, gate=gate_of(used), check=watch)
    assert outcome.end.status == "succeeded"
    assert len(outcome.world.started_s) >= 3
    assert all(used(0, at_s) == 0.0 for _, at_s in outcome.world.started_s)
    assert quarantined(outcome) == {}


def test_an_llm_that_has_another_gpu_in_a_later_stage_waits_for_that() -> None:
    b0 = Placement("b", 1, 1, (0,))
    outcome = run(lambda gpu, _: 20.0 * gpu, candidate_of(([A0, B1], "ab"), ([b0], "b")))
    assert list(quarantined(outcome)) == [1]
    assert outcome.end.status == "succeeded"
    assert len(outcome.tape.outputs) == 6
    assert outcome.world.starts == {"a.0": 1, "b.0": 1}


def test_every_replica_on_a_quarantined_gpu_is_lost_without_waiting_again() -> None:
    both = Placement("b", 2, 1, (0, 1))
    outcome = run(lambda gpu, _: 20.0 * gpu, candidate_of(([A0, B1], "a"), ([both], "b")))
    assert outcome.end.status == "failed"
    assert len(outcome.tape.errors) == 3
    assert outcome.world.starts == {"a.0": 1}
    assert outcome.tape.events[-1].at_s < 1.5 * PATIENCE_S


def test_without_a_driver_that_answers_engines_start_after_a_moment() -> None:
    table = table_of("a", [("a", ())])
    outcome = run_bench(state_of(table, candidate_of(([A0], "a"))), Script(), gate=GpuGate(lambda: ()))
    assert outcome.end.status == "succeeded"


def test_the_next_supervisor_looks_again() -> None:
    events: list[AnyEvent] = [GpuQuarantined(at_s=1.0, gpu=3, cause="in use")]
    state = fold(events)
    assert state.quarantined == {3: "in use"}
    assert state.problems[-1].where == "GPU 3"
    fold([SupervisorStarted(at_s=2.0, epoch=2, pid=1, unix_s=0.0)], state)
    assert state.quarantined == {}


def test_the_driver_s_own_figures_are_what_counts(tmp_path: Path) -> None:
    """Through pynvml, on a stand-in for NVIDIA's library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the stand-in for libnvidia-ml.so.1 with")
    source = Path(__file__).parents[1] / "telemetry" / "fake_nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True)
    script = """
        import asyncio, sys
        from samullm_tui.domain.plan import Replica
        from samullm_tui.supervisor.gpu_gate import GpuGate, GpuTakenError
        from samullm_tui.telemetry.gpu import GpuSampler
        with GpuSampler() as gpus:
            try:
                asyncio.run(GpuGate(gpus.latest, patience_s=0.0).until_free(Replica("a", (1,)), print))
                print("free")
            except GpuTakenError as error:
                print(error)
    """
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(tmp_path),
        "FAKE_NVML_COUNT": "2",
        "FAKE_NVML_MIB": "81920",
    }
    said = []
    for mib in ("500", "40960"):
        environment["FAKE_NVML_USED_MIB"] = mib
        command = [sys.executable, "-c", textwrap.dedent(script)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert said[0] == "free"
    assert said[1].startswith("GPU 1: 40.0 of its 80.0 GiB are in use after ")


def test_waiting_ends_when_the_engine_is_not_wanted_any_more() -> None:
    async def main() -> None:
        waiting = asyncio.create_task(gate_of(lambda *_: 70.0).until_free(Replica("a", (0,)), lambda _: None))
        await asyncio.sleep(10.0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run_scaled(main(), inf)


def test_the_gpu_that_is_in_use_is_named() -> None:
    async def main() -> None:
        with pytest.raises(GpuTakenError) as raised:
            await gate_of(lambda gpu, _: 70.0 * gpu).until_free(Replica("a", (0, 1)), lambda _: None)
        assert raised.value.gpu == 1

    run_scaled(main(), inf)
