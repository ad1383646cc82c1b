"""The server's own route by which an engine gives up what it has: for whoever has the key, and nothing else changes."""

from __future__ import annotations

from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest

from samullm_tui.engines.abort_route import ABORT, AbortRoute


class Engine:
    """What is used of vLLM's engine client."""

    def __init__(self) -> None:
        self.paused: list[dict[str, object]] = []

    async def pause_generation(self, **how: object) -> None:
        self.paused.append(how)


async def ask(path: str, method: str = "POST", key: str | None = "Bearer secret") -> tuple[Any, Engine, int]:
    """(status, engine, calls that went on to the application)."""
    engine, statuses, passed = Engine(), [], 0

    async def application(*_: object) -> None:
        nonlocal passed
        passed += 1

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.append(message.get("status"))

    headers = [] if key is None else [(b"authorization", key.encode())]
    app = SimpleNamespace(state=SimpleNamespace(engine_client=engine))
    scope = {"type": "http", "path": path, "method": method, "headers": headers, "app": app}
    await AbortRoute(application)(scope, receive, send)
    return statuses[0] if statuses else None, engine, passed


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")


async def test_with_the_key_everything_in_flight_is_given_up() -> None:
    status, engine, passed = await ask(ABORT)
    assert (status, passed) == (200, 0)
    assert engine.paused == [{"mode": "abort", "clear_cache": False}]


@pytest.mark.parametrize("key", [None, "Bearer guessed", "secret", "Bearer "])
async def test_without_the_key_nothing_happens(key: str | None) -> None:
    status, engine, passed = await ask(ABORT, key=key)
    assert (status, engine.paused, passed) == (401, [], 0)


@pytest.mark.parametrize(
    ("path", "method"), [("/v1/completions", "POST"), (ABORT, "GET"), (ABORT + "/x", "POST")]
)
async def test_everything_else_goes_on_to_the_server(path: str, method: str) -> None:
    status, engine, passed = await ask(path, method, None)
    assert (status, engine.paused, passed) == (None, [], 1)
