"""A port for a server to listen on."""

from __future__ import annotations

import socket

__all__ = ["free_port"]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now.

    Another process may take it before the server does: then the server ends, saying so, and is started again on
    another one; and whoever answers on the port must prove to be ours (`VllmClient.check_identity`).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
