"""What a supervisor and the process that thinks about its plan say to each other, on a socket."""

from __future__ import annotations

import io
import pickle
import socket
import struct
import time
from typing import Any, Literal

from msgspec import Struct

from samullm_tui.domain.request import RequestTable

__all__ = ["Question", "Reply", "ask", "receive"]

LENGTH = struct.Struct(">Q")
TABLE = "table"
CHUNK_BYTES = 1 << 20


class Question(Struct, frozen=True):
    """`situation`: a planner's Situation; `seed` of everything that is drawn."""

    what: Literal["reconsider", "forecast"]
    situation: Any
    seed: tuple[int, ...] = ()


class Reply(Struct, frozen=True):
    """`answer`: a Verdict, or the ends; `failure`: why there is none."""

    answer: Any = None
    failure: str = ""


class _Pickler(pickle.Pickler):
    """Leaves the table of the requests out: it is large, never changes, and was sent before."""

    def __init__(self, file: io.BytesIO, table: RequestTable | None) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._table = table

    def persistent_id(self, value: object) -> str | None:
        return TABLE if value is self._table and value is not None else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, table: RequestTable | None) -> None:
        super().__init__(file)
        self._table = table

    def persistent_load(self, _name: str) -> RequestTable | None:
        return self._table


def ask(peer: socket.socket, value: object, table: RequestTable | None = None) -> None:
    """Sends a value. `table`: what the other side has already."""
    file = io.BytesIO()
    _Pickler(file, table).dump(value)
    peer.sendall(LENGTH.pack(file.tell()))
    peer.sendall(file.getbuffer())


def receive(peer: socket.socket, table: RequestTable | None = None, until_s: float | None = None) -> Any:
    """The next value. Raises EOFError when the other side is gone, TimeoutError after `until_s` (monotonic)."""
    (length,) = LENGTH.unpack(_exactly(peer, LENGTH.size, until_s))
    return _Unpickler(io.BytesIO(_exactly(peer, length, until_s)), table).load()


def _exactly(peer: socket.socket, size: int, until_s: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if until_s is not None:
            peer.settimeout(max(0.001, until_s - time.monotonic()))
        chunk = peer.recv(min(CHUNK_BYTES, size - len(data)))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
