"""What a supervisor and the process that thinks about its plan say to each other, on a socket.

A message is its number of parts, and each part behind its length: the pickle, then the arrays that it is about, from
where they are and to where they stay. With a million requests a copy of them would be what takes most memory in a run.
"""

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

    def __init__(
        self, file: io.BytesIO, table: RequestTable | None, arrays: list[pickle.PickleBuffer]
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append)
        self._table = table

    def persistent_id(self, value: object) -> str | None:
        return TABLE if value is self._table and value is not None else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, table: RequestTable | None, arrays: list[bytearray]) -> None:
        super().__init__(file, buffers=arrays)
        self._table = table

    def persistent_load(self, _name: str) -> RequestTable | None:
        return self._table


def ask(peer: socket.socket, value: object, table: RequestTable | None = None) -> None:
    """Sends a value. `table`: what the other side has already."""
    file, arrays = io.BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(file, table, arrays).dump(value)
    peer.sendall(LENGTH.pack(1 + len(arrays)))
    for part in (file.getbuffer(), *(array.raw() for array in arrays)):
        peer.sendall(LENGTH.pack(part.nbytes))
        peer.sendall(part)


def receive(peer: socket.socket, table: RequestTable | None = None, until_s: float | None = None) -> Any:
    """The next value. Raises EOFError when the other side is gone, TimeoutError after `until_s` (monotonic)."""
    parts = [_exactly(peer, _number(peer, until_s), until_s) for _ in range(_number(peer, until_s))]
    return _Unpickler(io.BytesIO(parts[0]), table, parts[1:]).load()


def _number(peer: socket.socket, until_s: float | None) -> int:
    (number,) = LENGTH.unpack(_exactly(peer, LENGTH.size, until_s))
    return int(number)


def _exactly(peer: socket.socket, size: int, until_s: float | None) -> bytearray:
    data = bytearray()
    while len(data) < size:
        if until_s is not None:
            peer.settimeout(max(0.001, until_s - time.monotonic()))
        chunk = peer.recv(min(CHUNK_BYTES, size - len(data)))
        if not chunk:
            raise EOFError
        data += chunk
    return data
