"""What is asked of a vLLM server over HTTP, and what its answers mean."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.engines.protocol import Completion, EngineStats, GenerateRequest, RequestRefusedError
from samullm_tui.engines.vllm_metrics import kv_blocks_of, stats_of

__all__ = ["VllmClient", "message_of"]

QUICK = aiohttp.ClientTimeout(total=10)
PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""A completion takes as long as it takes: a large batch queues for hours. The server's death ends the connection."""
IDLE_S = 2.0
"""A connection that nobody used for so long is not used again: the server closes it after 5 s, maybe just then."""
FINISHED = frozenset({"stop", "length"})
REFUSALS = frozenset({400, 413, 422})
MESSAGE_LIMIT = 300
ECHO = 16
"""As many characters of a prompt in a row, and a message counts as quoting it."""


class VllmClient:
    """One server. `cookie` is the name under which it serves its model; the key proves that it is ours."""

    def __init__(self, url: str, cookie: str, api_key: str) -> None:
        self._cookie = cookie
        self._context = 1
        # No limit of connections: how many requests are in flight is the dispatcher's business.
        self._session = aiohttp.ClientSession(
            url,
            headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            timeout=QUICK,
        )

    async def close(self) -> None:
        await self._session.close()

    async def is_ours(self) -> bool:
        """Whether a healthy server answers that takes our key and serves under our name."""
        try:
            await self._get("/health")
            models = msgspec.json.decode(await self._get("/v1/models"))["data"]
            (ours,) = [model for model in models if model["id"] == self._cookie]
            self._context = ours["max_model_len"]
        except (EngineError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            return False
        return True

    async def complete(self, request: GenerateRequest) -> Completion:
        """Raises EngineError: this attempt failed; RequestRefusedError: every attempt would.

        A prompt that fits, but not with `max_tokens`, is cut short by the server with finish_reason "length".
        """
        path, body = _as_http(request, self._cookie, self._context)
        try:
            async with self._session.post(path, data=msgspec.json.encode(body), timeout=PATIENT) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(f"the connection broke ({type(error).__name__})") from error
        if response.status in REFUSALS:
            raise RequestRefusedError(Problem("", "", message_of(content, request.prompt)))
        if response.status != 200:
            raise self._failed(f"status {response.status}: {message_of(content, request.prompt)}")
        return self._completion(content)

    def _completion(self, content: bytes) -> Completion:
        try:
            answer: dict[str, Any] = msgspec.json.decode(content)
            choice, usage = answer["choices"][0], answer["usage"]
            token_ids = choice.get("token_ids")
            completion = Completion(
                text=(choice["text"] if "text" in choice else choice["message"]["content"]) or "",
                token_ids=None if token_ids is None else tuple(token_ids),
                finish_reason=choice["finish_reason"] or "",
                prompt_tokens=usage["prompt_tokens"],
                output_tokens=usage.get("completion_tokens") or 0,
            )
        except (msgspec.DecodeError, KeyError, IndexError, TypeError) as error:
            raise self._failed("its answer cannot be read") from error
        if completion.finish_reason not in FINISHED:
            # A server that is told to end answers 200 with what it has so far: an attempt, not a result.
            raise self._failed(f"the answer is not whole (finish_reason {completion.finish_reason!r})")
        return completion

    async def stats(self) -> EngineStats:
        return stats_of((await self._get("/metrics")).decode())

    async def kv_blocks(self) -> int | None:
        return kv_blocks_of((await self._get("/metrics")).decode())

    async def _get(self, path: str) -> bytes:
        try:
            async with self._session.get(path) as response:
                response.raise_for_status()
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(f"{path} is not answered ({type(error).__name__})") from error

    def _failed(self, what: str) -> EngineError:
        return EngineError(Problem(self._cookie, "", sanitise_line(what, MESSAGE_LIMIT)))


def _as_http(request: GenerateRequest, model: str, context: int) -> tuple[str, dict[str, object]]:
    """Path and body. An answer may fill the context unless `max_tokens` is less.

    vLLM would cut at 16 tokens without `max_tokens`, and refuse more than the context.
    """
    wanted = request.sampling.get("max_tokens")
    most = context if wanted is None else min(wanted, context) if isinstance(wanted, int) else wanted
    fixed = {"model": model, "stream": False, "return_token_ids": True, "max_tokens": most}
    if request.chat:
        messages = [{"role": "user", "content": request.prompt}]
        return "/v1/chat/completions", {**request.sampling, **fixed, "messages": messages}
    return "/v1/completions", {**request.sampling, **fixed, "prompt": request.token_ids or request.prompt}


def message_of(content: bytes, prompt: str) -> str:
    """What the server says is wrong: one sanitised line that holds no part of the prompt."""
    try:
        found = msgspec.json.decode(content)
        error = found.get("error", found)
        text = str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.DecodeError, AttributeError, KeyError):
        text = content.decode(errors="replace")
    # Validation errors quote what they were given, at their end.
    for quote in ("'input':", "input_value=", "input="):
        text = text.partition(quote)[0]
    return sanitise_line(_without(text[:4000], prompt).strip(), MESSAGE_LIMIT)


def _without(text: str, prompt: str) -> str:
    """`text` up to where it begins to quote the prompt."""
    width = min(ECHO, len(prompt))
    quoted = (at for at in range(len(text) - width + 1) if text[at : at + width] in prompt)
    at = next(quoted, None) if width else None
    return text if at is None else text[:at] + "…"
