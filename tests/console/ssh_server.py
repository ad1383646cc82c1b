"""A real SSH server on the loopback, in the test's own process: each session runs its command in a pseudo-terminal.

What a session sends is read from its terminal only while the connection takes it, as an sshd does; when the connection
goes, the terminal is hung up.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import shlex
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncssh

from benchmarks.terminal import Picture

__all__ = ["PATIENCE_S", "Client", "Server", "Session", "open_server"]

PATIENCE_S = 120.0
WINDOW_BYTES = 4096
"""Of the client: what it does not read stays on the server's side."""


class Session(asyncssh.SSHServerSession[bytes]):
    """A command in a terminal of its own. `blocked`: the connection takes nothing more. `ended`: its exit status."""

    def __init__(self) -> None:
        self.blocked = False
        self.pid = 0
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._command: list[str] = []
        self._term = ""
        self._master, self._slave = pty.openpty()

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan
        chan.set_write_buffer_limits(0)

    def pty_requested(self, term_type: str, term_size: tuple[int, int, int, int], term_modes: object) -> bool:
        self._term = term_type
        self.terminal_size_changed(*term_size)
        return True

    def exec_requested(self, command: str) -> bool:
        self._command = shlex.split(command)
        return True

    def session_started(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        known = {
            k: v
            for k, v in os.environ.items()
            if k not in {"COLORTERM", "NO_COLOR", "COLUMNS", "LINES", "TMUX"}
        }
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=known | {"TERM": self._term},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(self._slave)
        self.pid = process.pid
        if self._master >= 0:
            self._listen()
        self.ended.set_result(await process.wait())
        if self._master >= 0:
            # What it said last is still in the terminal.
            while self._forward():
                pass
            self._channel.exit(max(0, self.ended.result()))

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._master, self._forward)

    def _forward(self) -> bool:
        """Sends on what the terminal has. False: it has nothing, and nobody is in it any more."""
        with suppress(OSError):
            if data := os.read(self._master, 4096):
                self._channel.write(data)
                return True
        asyncio.get_running_loop().remove_reader(self._master)
        return False

    def pause_writing(self) -> None:
        self.blocked = True
        asyncio.get_running_loop().remove_reader(self._master)

    def resume_writing(self) -> None:
        self.blocked = False
        if self.pid and not self.ended.done():
            self._listen()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        os.write(self._master, data)

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, pixwidth, pixheight))

    def connection_lost(self, exc: Exception | None) -> None:
        """Hangs up."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        self._master = -1


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # Whoever runs the tests may ignore it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class _Door(asyncssh.SSHServer):
    """Lets everybody in."""

    def __init__(self, sessions: list[Session]) -> None:
        self._sessions = sessions

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> Session:
        self._sessions.append(Session())
        return self._sessions[-1]


@dataclass
class Client:
    """The operator's end of one session: everything that came, and the picture that it makes."""

    connection: asyncssh.SSHClientConnection
    process: asyncssh.SSHClientProcess[bytes]
    session: Session
    picture: Picture = field(default_factory=Picture)
    output: bytes = b""

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def press(self, keys: str) -> None:
        self.process.stdin.write(keys.encode())

    def resize(self, width: int, height: int) -> None:
        self.picture = Picture(width, height)
        self.process.change_terminal_size(width, height)

    async def sees(self, shown: str | Callable[[str], bool]) -> str:
        """Reads until the picture has the words, and returns it."""
        holds = shown if callable(shown) else lambda picture: shown in picture
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds(self.picture.text):
                    assert await self._take(), f"it ended:\n{self.picture.text}"
        except TimeoutError:
            raise AssertionError(f"{shown!r} did not come; shown is:\n{self.picture.text}") from None
        return self.picture.text

    async def end(self) -> int:
        """Reads to the end, and returns the exit status."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._take():
                pass
            await self.process.wait_closed()
        assert self.process.exit_status is not None
        return self.process.exit_status

    async def _take(self) -> bool:
        data = await self.process.stdout.read(65536)
        self.output += data
        self.picture.feed(self._decoder.decode(data))
        return bool(data)


class Server:
    """Listens on the loopback. `login` is a new connection with one session."""

    def __init__(self, acceptor: asyncssh.SSHAcceptor, sessions: list[Session]) -> None:
        self._port = acceptor.get_port()
        self._sessions = sessions
        self._clients: list[Client] = []

    async def login(self, *command: str) -> Client:
        connection = await asyncssh.connect(
            "127.0.0.1", self._port, username="operator", known_hosts=None, client_keys=None, config=None
        )
        process = await connection.create_process(
            shlex.join(command),
            term_type="xterm-256color",
            term_size=(80, 24),
            encoding=None,
            window=WINDOW_BYTES,
        )
        self._clients.append(Client(connection, process, self._sessions[-1]))
        return self._clients[-1]

    async def close(self) -> None:
        """Hangs up on everybody, and waits for what they ran."""
        for client in self._clients:
            client.connection.abort()
        for session in self._sessions:
            async with asyncio.timeout(PATIENCE_S):
                await session.ended


@asynccontextmanager
async def open_server() -> AsyncIterator[Server]:
    sessions: list[Session] = []
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: _Door(sessions),
        server_host_keys=[key],
        encoding=None,
        line_editor=False,
    )
    server = Server(acceptor, sessions)
    try:
        yield server
    finally:
        await server.close()
        acceptor.close()
        await acceptor.wait_closed()
