"""A route of its own in a vLLM server: it gives up all it has in flight, and answers each with what there is of it.

`--middleware samullm_tui.engines.abort_route.AbortRoute` adds `POST /v1/abort`. vLLM (0.32) has the like among its
development routes, but without a key and beside others that let anybody on the machine do anything; and SIGTERM answers
nothing when it comes in the middle of a step. Of vLLM is used: `app.state.engine_client.pause_generation`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["ABORT", "MIDDLEWARE", "AbortRoute"]

ABORT = "/v1/abort"
MIDDLEWARE = "samullm_tui.engines.abort_route.AbortRoute"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class AbortRoute:
    """ASGI. It stands before the server's own check of the key, so that it has one of its own."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._right = f"Bearer {os.environ.get('VLLM_API_KEY', '')}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != ABORT or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        status = 401
        if secrets.compare_digest(given, self._right):
            # Returns when every answer is on its way. What comes after it waits for ever.
            await scope["app"].state.engine_client.pause_generation(mode="abort", clear_cache=False)
            status = 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
