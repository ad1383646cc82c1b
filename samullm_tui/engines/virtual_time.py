"""An asyncio event loop whose time runs at a multiple of the wall's, or jumps from timer to timer.

Code that asks `loop.time()` and sleeps with asyncio runs unchanged, at any speed.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["ScaledLoop", "run_scaled"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Ready = list[tuple[selectors.SelectorKey, int]]


class _Selector(selectors.DefaultSelector):
    """Waits as the loop tells it to, instead of for `timeout` seconds of the wall."""

    wait: Callable[[float | None], Ready]

    def select(self, timeout: float | None = None) -> Ready:
        return self.wait(timeout)

    def select_wall(self, timeout_s: float | None) -> Ready:
        return super().select(timeout_s)


class ScaledLoop(asyncio.SelectorEventLoop):
    """`time()` counts from 0, `speed` seconds for each second of the wall.

    At speed `math.inf` it stands still while anything is ready and then jumps to exactly the next timer. Files and
    sockets are looked at before every jump. Work outside the loop takes no time then: as long as a thread of
    `run_in_executor` works, or a `hold()` is open, the loop waits for it and does not jump.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began_wall_s = monotonic()
        self._now_s = 0.0
        self._holds = 0
        selector = _Selector()
        selector.wait = self._wait
        super().__init__(selector)
        self._selector_of_wall = selector
        if not speed > 0:
            self.close()
            raise ValueError(f"a speed is above 0, not {speed}")
        if speed == math.inf:
            self._go_to(0.0)

    def time(self) -> float:
        return self._now_s if self.speed == math.inf else (monotonic() - self._began_wall_s) * self.speed

    def _wait(self, timeout: float | None) -> Ready:
        """What asyncio's own loop calls to wait: `timeout` is in this loop's seconds, None when there is no timer."""
        select = self._selector_of_wall.select_wall
        if timeout is None or timeout <= 0:
            return select(timeout)
        if self.speed != math.inf:
            return select(timeout / self.speed)
        ready = select(None if self._holds else 0)
        if not ready and not self._holds:
            timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # not in typeshed
            self._go_to(timers[0].when())
        return ready

    def _go_to(self, now_s: float) -> None:
        self._now_s = now_s
        # asyncio runs the timers before now + resolution: with this one those up to now exactly, whatever its size.
        self._clock_resolution = math.ulp(self._now_s)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps the time from jumping while something outside the loop works. It must wake the loop when it is done."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._holds += 1
        future.add_done_callback(self._release)
        return future

    def _release(self, _future: asyncio.Future[Any]) -> None:
        self._holds -= 1


def run_scaled(main: Coroutine[Any, Any, T], speed: float) -> T:
    """Like `asyncio.run`, on a ScaledLoop. Speed 1 is wall time."""
    with asyncio.Runner(loop_factory=lambda: ScaledLoop(speed)) as runner:
        return runner.run(main)
