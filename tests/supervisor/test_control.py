"""The control socket: a deep path, a wrong line, another user."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from samullm_tui.domain.errors import Problem, RunError
from samullm_tui.supervisor.client import ControlClient
from samullm_tui.supervisor.control import ControlServer, Status, open_socket, short_path
from samullm_tui.supervisor.liveness import Heart, RunLock, is_locked, read_heartbeat
from samullm_tui.supervisor.spec import RunPaths


class Desk:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object, str]] = []

    def status(self) -> Status:
        return Status(run="r", status="running", pid=1, epoch=1, at_s=0.0, requests=5, outputs=2, errors=0)

    async def approve(self, rank: int, by: str) -> None:
        self.told.append(("approve", rank, by))

    async def control(self, command: Literal["pause", "resume", "drain", "stop"], by: str) -> None:
        if command == "pause":
            raise RunError(Problem("r", "", "cannot pause"))
        self.told.append((command, None, by))

    async def replan(self, by: str) -> str:
        self.told.append(("replan", None, by))
        return "it was asked"

    async def answer(self, number: int, by: str, *, accept: bool) -> None:
        self.told.append(("accept" if accept else "refuse", number, by))


def served(paths: RunPaths, desk: Desk, talk: object) -> object:
    """What `talk` (blocking, in a thread) gives while the socket is served."""

    async def main() -> object:
        server = ControlServer(desk, open_socket(paths.socket))
        await server.start()
        try:
            return await asyncio.to_thread(talk)  # type: ignore[arg-type]
        finally:
            await server.close()

    return asyncio.run(main())


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    folder = tmp_path / ("very-deep-" * 15)
    folder.mkdir()
    return RunPaths(folder)


def test_commands_reach_the_run_and_are_answered(paths: RunPaths) -> None:
    desk = Desk()

    def talk() -> Status:
        client = ControlClient(paths)
        client.approve(3, by="me")
        client.drain()
        assert client.replan() == "it was asked"
        client.accept(2, by="me")
        client.refuse(3)
        with pytest.raises(RunError, match="cannot pause"):
            client.pause()
        return client.status()

    status = served(paths, desk, talk)
    assert isinstance(status, Status)
    assert status.outputs == 2
    assert desk.told == [
        ("approve", 3, "me"),
        ("drain", None, "operator"),
        ("replan", None, "operator"),
        ("accept", 2, "me"),
        ("refuse", 3, "operator"),
    ]


def test_one_connection_takes_many_lines_and_survives_wrong_ones(paths: RunPaths) -> None:
    def talk() -> list[bytes]:
        with (
            socket.socket(socket.AF_UNIX) as connection,
            short_path(paths.socket) as address,
        ):
            connection.connect(address)
            connection.sendall(b'not json\n{"command": "fly"}\n{"command": "status"}\n')
            with connection.makefile("rb") as lines:
                return [lines.readline() for _ in range(3)]

    replies = served(paths, Desk(), talk)
    assert isinstance(replies, list)
    assert [b'"ok":true' in reply for reply in replies] == [False, False, True]
    assert b"not a command" in replies[0]


def test_a_line_without_end_is_hung_up_on(paths: RunPaths) -> None:
    def talk() -> bytes:
        with socket.socket(socket.AF_UNIX) as connection, short_path(paths.socket) as address:
            connection.connect(address)
            try:
                connection.sendall(b"x" * 300_000)
                return connection.recv(100)
            except ConnectionError:
                return b""

    assert served(paths, Desk(), talk) == b""


def test_what_a_dead_supervisor_left_at_the_socket_is_replaced(paths: RunPaths) -> None:
    open_socket(paths.socket).close()
    assert paths.socket.exists()
    assert isinstance(served(paths, Desk(), ControlClient(paths).status), Status)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_heard_even_when_the_folder_lets_it_in(paths: RunPaths) -> None:
    for folder in (paths.folder, *paths.folder.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    desk = Desk()
    code = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect("control.sock")
connection.sendall(b'{"command": "stop"}\\n')
sys.stdout.write(repr(connection.recv(100)))
"""

    def talk() -> str:
        paths.socket.chmod(0o666)
        done = subprocess.run(
            [sys.executable, "-c", code, str(paths.folder)], capture_output=True, text=True, check=False
        )
        return done.stdout or done.stderr

    said = served(paths, desk, talk)
    assert said == "b''" or "ConnectionResetError" in str(said) or "BrokenPipeError" in str(said)
    assert desk.told == []


def test_a_lock_is_held_until_its_holder_is_gone(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samullm_tui.supervisor.liveness.TAKE_S", 0.05)
    assert not is_locked(paths.lock)
    lock = RunLock(paths.lock)
    assert is_locked(paths.lock)
    with pytest.raises(RunError, match="another supervisor"):
        RunLock(paths.lock)
    lock.release()
    assert not is_locked(paths.lock)


def test_a_heartbeat_is_of_the_machine_s_clock(paths: RunPaths) -> None:
    assert read_heartbeat(paths.heartbeat) is None
    Heart(paths.heartbeat).stop()
    heartbeat = read_heartbeat(paths.heartbeat)
    assert heartbeat is not None
    assert heartbeat.pid == os.getpid()
    assert heartbeat.age_s >= 0.0
    assert not heartbeat.is_stale
    paths.heartbeat.write_bytes(b"{")
    assert read_heartbeat(paths.heartbeat) is None
