"""The control socket: one JSON object a line, each answered by one.

{"command": "status"} · {"command": "approve", "rank": 1, "by": "…"} · pause · resume · drain · stop · replan
{"command": "accept", "number": 3, "by": "…"} · refuse: what to do about a proposal of the rescheduler
The answer has "ok"; when that is false, "error" says why. "said" is what else there is to say. A command that changes
the run is answered when it is durable. Only processes of the same user are heard.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from samullm_tui.domain.errors import SamullmError

__all__ = ["Asked", "Command", "ControlServer", "Controlled", "Reply", "Status", "open_socket", "short_path"]

MAX_LINE_BYTES = 64 * 1024
BACKLOG = 16


Asked = Literal["status", "approve", "pause", "resume", "drain", "stop", "replan", "accept", "refuse"]


class Command(Struct, frozen=True):
    """`rank` is of an approval, `number` of a proposal, `by` says who asks."""

    command: Asked
    rank: int = 1
    by: str = "operator"
    number: int = 0


class Status(Struct, frozen=True, kw_only=True):
    """How a run stands, as its supervisor knows it. `trouble`: why nothing can be recorded now."""

    run: str
    status: str
    pid: int
    epoch: int
    at_s: float
    requests: int
    outputs: int
    errors: int
    trouble: str = ""


class Reply(Struct, frozen=True, omit_defaults=True):
    ok: bool
    error: str = ""
    status: Status | None = None
    said: str = ""


class Controlled(Protocol):
    """What commands are given to. Each raises RunError when it cannot be done now."""

    def status(self) -> Status: ...

    async def approve(self, rank: int, by: str) -> None: ...

    async def control(self, command: Literal["pause", "resume", "drain", "stop"], by: str) -> None: ...

    async def replan(self, by: str) -> str:
        """Asks for a decision now; returns what will come of that, in words."""

    async def answer(self, number: int, by: str, *, accept: bool) -> None:
        """The operator's word on a proposal. Once more the same word is no mistake."""


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A way to `path` that fits into a socket address (108 bytes), however deep its folder is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def open_socket(path: Path) -> socket.socket:
    """Listens at `path`, mode 0600. What a dead supervisor left there goes: the caller holds the run's lock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            with short_path(path) as address:
                listener.bind(address)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


class ControlServer:
    """Answers on `listener` for `run`, until it is closed."""

    def __init__(self, run: Controlled, listener: socket.socket) -> None:
        self._run = run
        self._listener = listener
        self._server: asyncio.Server
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._accept, sock=self._listener, limit=MAX_LINE_BYTES
        )

    async def close(self) -> None:
        """Answers that are under way are given first."""
        self._closing = True
        self._server.close()
        for client in self._clients - self._answering:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if _peer_uid(writer) == os.geteuid():
                await self._talk(task, reader, writer)
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # it went away, sent a line without end, or the supervisor ends
        finally:
            self._clients.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _talk(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not self._closing and (line := await reader.readline()):
            self._answering.add(task)
            try:
                reply = await self._answer(line)
                writer.write(msgspec.json.encode(reply) + b"\n")
                await writer.drain()
            finally:
                self._answering.discard(task)

    async def _answer(self, line: bytes) -> Reply:
        try:
            command = msgspec.json.decode(line, type=Command)
            said = await self._obey(command)
        except msgspec.DecodeError as error:
            return Reply(False, f"not a command: {error}")
        except SamullmError as error:
            return Reply(False, str(error))
        return Reply(True, status=self._run.status(), said=said)

    async def _obey(self, command: Command) -> str:
        """What there is to say about it."""
        match command.command:
            case "status":
                pass
            case "approve":
                await self._run.approve(command.rank, command.by)
            case "replan":
                return await self._run.replan(command.by)
            case "accept" | "refuse" as answer:
                await self._run.answer(command.number, command.by, accept=answer == "accept")
            case other:
                await self._run.control(other, command.by)
        return ""


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    """User of the process at the other end, as the kernel knows it."""
    peer: socket.socket = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)
