"""What is asked of a vLLM server over HTTP, and what its answers mean."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import msgspec

from samullm_tui.domain.errors import EngineError, EngineStartError, Problem
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.engines.protocol import Completion, EngineStats, GenerateRequest, RequestRefusedError

__all__ = ["VllmClient"]

QUICK = aiohttp.ClientTimeout(total=10)
PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""A completion takes as long as it takes: a large batch queues for hours. The server's death ends the connection."""
FINISHED = frozenset({"stop", "length"})
REFUSALS = frozenset({400, 404, 413, 422})
METRIC = re.compile(r"^(vllm:\w+)(\{[^}]*\})? ([^ ]+)$", re.MULTILINE)
BLOCKS = re.compile(r'num_gpu_blocks="(\d+)"')
CAUSE_LIMIT = 200


class VllmClient:
    """One server. `cookie` is the name under which it serves its model; the key proves that it is ours."""

    def __init__(self, url: str, cookie: str, api_key: str) -> None:
        self._cookie = cookie
        # No limit of connections: how many requests are in flight is the dispatcher's business.
        self._session = aiohttp.ClientSession(
            url,
            headers={"Authorization": f"Bearer {api_key}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=QUICK,
        )

    async def close(self) -> None:
        await self._session.close()

    async def is_healthy(self) -> bool:
        """Whether the server answers. It says so of a stuck engine too."""
        try:
            async with self._session.get("/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def check_identity(self) -> None:
        """Raises EngineStartError when the server on the port is not the one that was started."""
        found = await self._get_json("/v1/models")
        names = {model.get("id") for model in found.get("data", []) if isinstance(model, dict)}
        if self._cookie not in names:
            raise EngineStartError(Problem(self._cookie, "", "another server answers on its port"))

    async def complete(self, request: GenerateRequest) -> Completion:
        """Raises EngineError: this attempt failed; RequestRefusedError: every attempt would.

        A prompt that fits, but not with `max_tokens`, is cut short by the server with finish_reason "length".
        """
        path, body = self._request(request)
        try:
            async with self._session.post(path, json=body, timeout=PATIENT) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise self._failed(f"the connection broke ({type(error).__name__})") from error
        if response.status in REFUSALS:
            raise RequestRefusedError(Problem("", "", _message(content, request.prompt)))
        if response.status != 200:
            raise self._failed(f"status {response.status}: {_message(content, request.prompt)}")
        return self._completion(content)

    def _request(self, request: GenerateRequest) -> tuple[str, dict[str, object]]:
        common = {"model": self._cookie, "return_token_ids": True, **request.sampling}
        if request.chat:
            return "/v1/chat/completions", {
                **common,
                "messages": [{"role": "user", "content": request.prompt}],
            }
        return "/v1/completions", {**common, "prompt": request.prompt}

    def _completion(self, content: bytes) -> Completion:
        try:
            answer = msgspec.json.decode(content)
            choice, usage = answer["choices"][0], answer["usage"]
            text = choice["text"] if "text" in choice else choice["message"]["content"]
            token_ids = choice.get("token_ids")
            finish_reason = choice["finish_reason"]
            completion = Completion(
                text=text or "",
                token_ids=None if token_ids is None else tuple(token_ids),
                finish_reason=finish_reason,
                prompt_tokens=usage["prompt_tokens"],
                output_tokens=usage.get("completion_tokens", 0),
            )
        except (msgspec.DecodeError, KeyError, IndexError, TypeError) as error:
            raise self._failed("its answer cannot be read") from error
        if finish_reason not in FINISHED:
            # A server that is told to end answers 200 with what it has so far: an attempt, not a result.
            raise self._failed(f"the answer is not whole (finish_reason {finish_reason!r})")
        return completion

    async def stats(self) -> EngineStats:
        totals = _metrics(await self._get_text("/metrics"))
        return EngineStats(
            running=int(totals.get("vllm:num_requests_running", 0)),
            waiting=int(totals.get("vllm:num_requests_waiting", 0)),
            kv_usage=totals.get("vllm:kv_cache_usage_perc"),
            preemptions_total=int(totals.get("vllm:num_preemptions_total", 0)),
            output_tokens_total=int(totals.get("vllm:generation_tokens_total", 0)),
        )

    async def kv_blocks(self) -> int | None:
        """KV blocks as the engine reports them; None when it does not."""
        found = BLOCKS.search(await self._get_text("/metrics"))
        return int(found[1]) if found else None

    async def _get_text(self, path: str) -> str:
        try:
            async with self._session.get(path) as response:
                response.raise_for_status()
                return await response.text()
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise self._failed(f"{path} is not answered ({type(error).__name__})") from error

    async def _get_json(self, path: str) -> Mapping[str, Any]:
        try:
            found = msgspec.json.decode(await self._get_text(path))
        except msgspec.DecodeError:
            found = None
        return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}

    def _failed(self, what: str) -> EngineError:
        return EngineError(Problem(self._cookie, "", what))


def _message(content: bytes, prompt: str) -> str:
    """What the server says is wrong, without the prompt."""
    try:
        found = msgspec.json.decode(content)
        error = found.get("error", found)
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (msgspec.DecodeError, AttributeError):
        text = content.decode(errors="replace")
    if prompt and prompt in text:
        text = text.replace(prompt, "…")
    return sanitise_line(text, CAUSE_LIMIT)


def _metrics(text: str) -> dict[str, float]:
    """Sums over the labels of each metric."""
    totals: dict[str, float] = {}
    for name, _, value in METRIC.findall(text):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals
