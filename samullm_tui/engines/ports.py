"""A port for a server to listen on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reserved_port"]


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that the system gives to nobody else as long as this is open.

    It is bound but not listened on, with SO_REUSEADDR: a server that sets it too, as vLLM does, can take the port
    while this holds it. A process that asks for this very port can take it before the server: then the server ends,
    saying so; and whoever answers must prove to be ours (`VllmClient.is_ours`).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port
