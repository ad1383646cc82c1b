"""The process in which plans are thought about: searching holds Python's lock, and must not hold up a run's requests.

`python -m samullm_tui.supervisor.reschedule_worker FD PARENT` answers questions on the socket FD until it is closed. It
is killed by the kernel when the process PARENT (more exactly, the thread of it that started this one) is gone.
"""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import signal
import socket
import struct
import sys
import time
from typing import Any, Literal

from msgspec import Struct

from samullm_tui.domain.request import RequestTable

__all__ = ["Question", "Reply", "ask", "main", "receive"]

PR_SET_PDEATHSIG = 1  # linux/prctl.h
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


def main() -> int:
    peer, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 0
    table: RequestTable | None = None
    while True:
        try:
            question = receive(peer, table)
        except (EOFError, ConnectionError):
            return 0
        if isinstance(question, RequestTable):
            table = question
        else:
            ask(peer, _reply(question))


def _reply(question: Question) -> Reply:
    import numpy as np

    from samullm_tui.planner.reschedule import forecast_rest, reconsider

    try:
        if question.what == "forecast":
            return Reply(forecast_rest(question.situation))
        return Reply(reconsider(question.situation, np.random.default_rng(question.seed)))
    except Exception as error:  # noqa: BLE001  # whatever it is, the run goes on with its plan and says so
        return Reply(failure=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
