"""A port for a server to listen on, and who listens on it."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["is_listened_on_by", "reserved_port"]


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that the system gives to nobody else as long as this is open.

    It is bound but not listened on, with SO_REUSEADDR: a server that sets it too, as vLLM does, can take the port
    while this holds it. A process that asks for this very port can take it before the server: then the server ends,
    saying so; and whoever answers must prove to be ours (`is_listened_on_by`, `VllmClient.is_ours`).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


def is_listened_on_by(port: int, pids: Iterable[int]) -> bool:
    """Whether one of these processes has the socket that listens on this port of 127.0.0.1."""
    listening = {f"socket:[{inode}]" for inode in _listeners(port)}
    return bool(listening) and any(not listening.isdisjoint(_open_files(pid)) for pid in pids)


def _listeners(port: int) -> Iterator[str]:
    """Inodes of sockets, from /proc/net/tcp: its columns are sl, local, remote, st, … and the tenth the inode."""
    listens, ours = "0A", {f"0100007F:{port:04X}", f"00000000:{port:04X}"}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1] in ours and columns[3] == listens:
            yield columns[9]


def _open_files(pid: int) -> set[str]:
    """What the descriptors of a process point at; nothing when it is gone or another user's."""
    found: set[str] = set()
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(str(descriptor.readlink()))
    return found
