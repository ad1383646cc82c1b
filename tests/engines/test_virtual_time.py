"""A loop whose time is scaled keeps asyncio's promises; at infinite speed its times are exact."""

from __future__ import annotations

import asyncio
import math
import threading
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samullm_tui.engines.virtual_time import ScaledLoop, run_scaled

times = st.floats(min_value=0.0, max_value=1e9, allow_nan=False)


def now() -> float:
    return asyncio.get_running_loop().time()


@given(st.lists(times, max_size=30))
def test_at_infinite_speed_timers_run_in_order_each_at_exactly_its_time(delays: list[float]) -> None:
    seen: list[tuple[float, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for when in delays:
            loop.call_at(when, lambda when=when: seen.append((when, loop.time())))
        await asyncio.sleep(max(delays, default=0.0) + 1.0)

    run_scaled(main(), math.inf)
    assert [when for when, _ in seen] == sorted(delays)
    assert all(when == at for when, at in seen)


def test_days_pass_at_once_and_the_clock_shows_them() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(86_400.0)
        return now()

    began_s = monotonic()
    assert run_scaled(main(), math.inf) == 86_400_000.0
    assert monotonic() - began_s < 60.0


def test_time_stands_still_while_something_is_ready() -> None:
    async def main() -> float:
        asyncio.get_running_loop().call_later(1.0, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        return now()

    assert run_scaled(main(), math.inf) == 0.0


def test_a_finite_speed_scales_the_wall() -> None:
    async def main() -> tuple[float, float]:
        wall_s, loop_s = monotonic(), now()
        await asyncio.sleep(20.0)
        return monotonic() - wall_s, now() - loop_s

    wall_s, loop_s = run_scaled(main(), 1000.0)
    assert loop_s >= 20.0
    assert wall_s >= 0.02, "it waits on the wall"
    assert loop_s == pytest.approx(wall_s * 1000.0, rel=0.05)


@pytest.mark.parametrize("speed", [100.0, math.inf])
def test_sockets_work(speed: float) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    assert run_scaled(main(), speed) == b"hello\n"


def test_sockets_are_served_between_jumps() -> None:
    """A client in a thread gets its answer though the loop always has another timer to jump to."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        answered = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        lines: list[bytes] = []

        def ask() -> None:
            async def talk() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"hello\n")
                lines.append(await reader.readline())
                writer.close()

            asyncio.run(talk())
            loop.call_soon_threadsafe(answered.set)

        thread = threading.Thread(target=ask)
        thread.start()
        while not answered.is_set():  # noqa: ASYNC110  # the timers are the point
            await asyncio.sleep(1.0)
        thread.join()
        server.close()
        return lines[0]

    assert run_scaled(main(), math.inf) == b"hello\n"


def test_work_in_a_thread_takes_no_time() -> None:
    async def main() -> tuple[list[str], float]:
        order: list[str] = []
        release = threading.Event()
        asyncio.get_running_loop().call_later(1.0, order.append, "timer")
        work = asyncio.create_task(asyncio.to_thread(release.wait))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(release.set)
        await work
        order.append("work")
        return list(order), now()

    assert run_scaled(main(), math.inf) == (["work"], 0.0)


def test_a_hold_keeps_the_time_until_it_is_released() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ScaledLoop)
        done = asyncio.Event()
        loop.call_later(5.0, lambda: None)
        with loop.hold():
            threading.Timer(0.02, loop.call_soon_threadsafe, [done.set]).start()
            await done.wait()
        held = now()
        await asyncio.sleep(7.0)
        assert now() == 7.0
        return held

    assert run_scaled(main(), math.inf) == 0.0


def test_timeouts_are_in_the_loops_seconds() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600.0):
                await asyncio.Event().wait()
        return now()

    assert run_scaled(main(), math.inf) == 3600.0


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_is_above_zero(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ScaledLoop(speed)
