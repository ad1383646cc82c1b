"""Faults that are armed inside a supervisor's process: deaths at exact system calls, full disks, clocks that jump."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Call", "Fault", "arm", "cut_power"]

Call = Literal["fdatasync", "write", "pwrite", "rename", "fsync", "ftruncate"]
FULL_S = 0.02
"""How long a full disk stays full: longer than a try, shorter than patience."""


class Fault(Struct, frozen=True, kw_only=True):
    """What goes wrong in one life of a supervisor. The defaults are: nothing.

    kill_after_s      SIGKILL that long after the start
    kill_at           SIGKILL at the n-th (from 1) of these calls: before it, after it, or in a write half way
    power_cut_seed    a kill takes from the files what no fdatasync has brought to the disk, or a part of it, by chance
    full_at           at the n-th of these calls, and for a moment after it, the disk is full
    clock_seed        `time.time` jumps by an hour back or a day on, at random
    segment_bytes     how large the journal's segments get
    python            runs in place of the interpreter that has vLLM
    refuse_every      every so manieth request of the table is refused, so that there are error rows as well
    """

    kill_after_s: float | None = None
    kill_at: tuple[Call, int, Literal["before", "half", "after"]] | None = None
    power_cut_seed: int | None = None
    full_at: tuple[Call, tuple[int, ...]] | None = None
    clock_seed: int | None = None
    segment_bytes: int = 10**9
    python: str = ""
    refuse_every: int = 0


def arm(fault: Fault, folder: Path) -> None:
    """Patches this process, which is the supervisor to be of the run in `folder`; in `sends` there it notes what it sends."""
    _write_often(fault.segment_bytes)
    note = os.open(folder / "sends", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    _note_sends(note, os.write)
    if fault.refuse_every:
        _refuse(fault.refuse_every)
    if fault.python:
        _replace_vllm(fault.python)
    if fault.kill_at:
        cut = fault.power_cut_seed is not None
        _kill_at(*fault.kill_at, PowerCut(folder / "power-cut") if cut else lambda: None)
    if fault.full_at:
        _full_at(*fault.full_at)
    if fault.clock_seed is not None:
        _jump_clock(np.random.default_rng(fault.clock_seed))


def _write_often(segment_bytes: int) -> None:
    """Small groups, so that a short run has many moments to die at."""
    from samullm_tui.journal.writer import JournalWriter
    from samullm_tui.supervisor import record

    record.GATHER_S, record.LIMIT_ITEMS, record.RETRY_S = 0.0, 3, 0.01
    JournalWriter.__init__.__kwdefaults__.update(group_s=0.0, segment_bytes=segment_bytes)


class PowerCut:
    """Knows how much of each file is on the disk. When called, it leaves word of what a cut at that moment may take.

    The files are cut when the process is dead: until then its other threads go on.
    """

    def __init__(self, word: Path) -> None:
        self._word = word
        before = (path.stat() for path in word.parent.glob("*.jsonl"))
        self._durable = {file.st_ino: file.st_size for file in before}
        for name in ("fdatasync", "fsync"):
            self._watch(name)

    def _watch(self, name: str) -> None:
        real = getattr(os, name)

        def sync(descriptor: int) -> None:
            file = os.fstat(descriptor)
            real(descriptor)
            self._durable[file.st_ino] = file.st_size

        setattr(os, name, sync)

    def __call__(self) -> None:
        # The journal first: what it had pointed at was on the disk before.
        paths = [self._word.with_name(name) for name in ("journal.jsonl", "outputs.jsonl", "errors.jsonl")]
        files = {path: path.stat() for path in paths if path.exists()}
        cuts = {str(path): (self._durable.get(file.st_ino, 0), file.st_size) for path, file in files.items()}
        self._word.write_bytes(msgspec.json.encode(cuts))


def cut_power(word: Path, rng: np.random.Generator) -> None:
    """Takes from the files all that was not on the disk, or a part of it, or leaves zeros in its place."""
    for path, (durable, written) in msgspec.json.decode(
        word.read_bytes(), type=dict[str, tuple[int, int]]
    ).items():
        os.truncate(path, int(rng.integers(min(durable, written), written + 1)))
        if rng.random() < 0.5:
            os.truncate(path, written)
    word.unlink()


def _note_sends(descriptor: int, write: Callable[[int, bytes], int]) -> None:
    from samullm_tui.supervisor.asking import Asking

    real = Asking.send

    def send(asking: Asking, index: int, engine: Any) -> None:
        write(descriptor, f"{os.getpid()} {index}\n".encode())
        real(asking, index, engine)

    Asking.send = send  # type: ignore[method-assign]


def _refuse(every: int) -> None:
    """A simulated engine refuses a request of unknown length."""
    from samullm_tui.supervisor.job import _RequestMaker

    real = _RequestMaker.__call__

    def make(maker: Any, index: int, *rest: Any) -> Any:
        request = real(maker, index, *rest)
        return replace(request, output_tokens=None) if index % every == every - 1 else request

    _RequestMaker.__call__ = make  # type: ignore[method-assign]


def _replace_vllm(python: str) -> None:
    """Engines are scripted servers, real processes in everything; the checkpoint is the folder of the interpreter."""
    from samullm_tui.engines import vllm_engine

    vllm_engine.VllmEngine.__init__.__kwdefaults__["python"] = python
    vllm_engine.require_vllm = lambda _: None  # type: ignore[assignment,return-value]
    vllm_engine.resolve_checkpoint = lambda _: str(Path(python).parent)  # type: ignore[assignment]
    vllm_engine.check_checkpoint = lambda *_: None  # type: ignore[assignment]


def _kill_at(call: Call, nth: int, when: str, last: Callable[[], None]) -> None:
    real: Callable[..., Any] = getattr(os, call)
    calls = 0

    def deadly(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != nth:
            return real(*arguments)
        if when == "half":
            descriptor, data, *place = arguments
            real(descriptor, bytes(data)[: len(data) // 2], *place)
        elif when == "after":
            real(*arguments)
        last()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")

    setattr(os, call, deadly)


def _full_at(call: Call, at: tuple[int, ...]) -> None:
    real: Callable[..., Any] = getattr(os, call)
    calls, full_until_s = 0, 0.0

    def full(*arguments: Any) -> Any:
        nonlocal calls, full_until_s
        calls += 1
        if calls in at:
            full_until_s = time.monotonic() + FULL_S
        if time.monotonic() >= full_until_s:
            return real(*arguments)
        if call in {"write", "pwrite"} and len(arguments[1]) > 1:
            descriptor, data, *place = arguments
            real(descriptor, bytes(data)[: len(data) // 2], *place)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    setattr(os, call, full)


def _jump_clock(rng: np.random.Generator) -> None:
    real = time.time
    time.time = lambda: real() + float(rng.choice([0.0, -3600.0, 86400.0]))
