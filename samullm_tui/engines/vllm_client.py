"""What is asked of a vLLM server over HTTP, and what its answers mean."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress

import aiohttp
import msgspec
from msgspec import Struct, structs

from samullm_tui.domain.errors import EngineError, Problem, SamullmError
from samullm_tui.domain.sanitise import sanitise_line
from samullm_tui.engines.abort_route import ABORT
from samullm_tui.engines.going_on import can_go_on, find_seam, joined, less
from samullm_tui.engines.protocol import (
    Begun,
    Completion,
    EngineStats,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
)
from samullm_tui.engines.vllm_metrics import kv_blocks_of, stats_of

__all__ = ["VllmClient", "message_of"]

QUICK = aiohttp.ClientTimeout(total=10)
PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""A completion takes as long as it takes: a large batch queues for hours. The server's death ends the connection."""
IDLE_S = 60.0
"""A connection that nobody used for so long is not used again: long before the server closes it (vllm_command)."""
FINISHED = frozenset({"stop", "length"})
REFUSALS = frozenset({400, 413, 422})
MESSAGE_LIMIT = 300
ECHO = 16
"""As many characters of a prompt in a row, and a message counts as quoting it."""


NO_IDS = msgspec.Raw(b"null")


class Message(Struct, frozen=True):
    content: str | None = None


class Choice(Struct, frozen=True):
    """`prompt_token_ids` are here for a completion; nobody looks at them unless the answer was aborted."""

    finish_reason: str | None = None
    text: str | None = None
    message: Message = Message()
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: msgspec.Raw = NO_IDS


class Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int | None = None


class Answer(Struct, frozen=True):
    """What is used of the body of an answer. `prompt_token_ids` are here for a chat."""

    choices: tuple[Choice, ...]
    usage: Usage
    prompt_token_ids: msgspec.Raw = NO_IDS


ANSWER = msgspec.json.Decoder(Answer)
IDS = msgspec.json.Decoder(tuple[int, ...] | None)
ENCODER = msgspec.json.Encoder()


class VllmClient:
    """One server. `cookie` is the name under which it serves its model; the key proves that it is ours.

    `specials`: ids of its tokenizer that a text does not show.
    """

    def __init__(self, url: str, cookie: str, api_key: str, specials: frozenset[int] = frozenset()) -> None:
        self._specials = specials
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
        begun = request.begun
        if begun is not None:
            kept, text = 0, ""
            with suppress(SamullmError):  # a server that cannot do that can still begin anew
                kept, text = await find_seam(begun, request.sampling, self._specials, self._detokenize)
            if kept:
                return await self._go_on(request, begun, kept, text)
        path, body = _as_http(request, self._cookie, self._context)
        return self._completion(await self._post(path, body, request.prompt), request)

    async def _go_on(self, request: GenerateRequest, begun: Begun, kept: int, text: str) -> Completion:
        """The answer as a whole, of which so many tokens are kept."""
        ids = (*begun.prompt_ids, *begun.token_ids[:kept])
        sampling = less(request.sampling, _most(request, self._context), kept)
        rest = structs.replace(request, token_ids=ids, chat=False, sampling=sampling)
        path, body = _as_http(rest, self._cookie, self._context)
        try:
            answer = self._completion(await self._post(path, body, request.prompt), rest)
        except PartialAnswerError as error:
            more = error.begun
            both = Begun(
                output_tokens=kept + more.output_tokens,
                pieces=begun.pieces + 1,
                prompt_ids=begun.prompt_ids,
                token_ids=array("i", [*begun.token_ids[:kept], *more.token_ids]),
                text=text + more.text,
            )
            raise PartialAnswerError(error.problems[0], both) from None
        return joined(begun, kept, text, answer)

    async def _post(self, path: str, body: object, prompt: str) -> bytes:
        """The body of an answer with status 200."""
        try:
            async with self._session.post(path, data=ENCODER.encode(body), timeout=PATIENT) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(f"the connection broke ({type(error).__name__})") from error
        if response.status in REFUSALS:
            raise RequestRefusedError(Problem("", "", message_of(content, prompt)))
        if response.status != 200:
            raise self._failed(f"status {response.status}: {message_of(content, prompt)}")
        return content

    def _completion(self, content: bytes, request: GenerateRequest) -> Completion:
        try:
            answer = ANSWER.decode(content)
            choice = answer.choices[0]
        except (msgspec.DecodeError, IndexError) as error:
            raise self._failed("its answer cannot be read") from error
        if choice.finish_reason not in FINISHED:
            # A server that is told to end answers 200 with what it has so far: an attempt, not a result.
            failure = self._failed(f"the answer is not whole (finish_reason {choice.finish_reason!r})")
            begun = _begun(answer, choice) if can_go_on(request.sampling) else None
            raise PartialAnswerError(failure.problems[0], begun) if begun else failure
        return Completion(
            text=(choice.message.content if choice.text is None else choice.text) or "",
            token_ids=choice.token_ids,
            finish_reason=choice.finish_reason,
            prompt_tokens=answer.usage.prompt_tokens,
            output_tokens=answer.usage.completion_tokens or 0,
        )

    async def _detokenize(self, token_ids: Sequence[int]) -> str:
        body = {"model": self._cookie, "tokens": list(token_ids)}
        try:
            found = msgspec.json.decode(await self._post("/detokenize", body, ""))
            return str(found["prompt"])
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise self._failed("/detokenize cannot be read") from error

    async def abort(self) -> None:
        """Everything in flight is answered with what there is of it. Raises EngineError."""
        await self._post(ABORT, {}, "")

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


def _begun(answer: Answer, choice: Choice) -> Begun | None:
    """What an aborted answer has; None: nothing that another engine could go on from."""
    try:
        prompt_ids = IDS.decode(choice.prompt_token_ids) or IDS.decode(answer.prompt_token_ids)
    except msgspec.DecodeError:
        return None
    text = choice.message.content if choice.text is None else choice.text
    if not choice.token_ids or not prompt_ids or not text:
        return None
    return Begun(
        output_tokens=len(choice.token_ids),
        # Some thousand requests may be kept: four bytes a token.
        prompt_ids=array("i", prompt_ids),
        token_ids=array("i", choice.token_ids),
        text=text,
    )


def _most(request: GenerateRequest, context: int) -> int:
    """How many tokens the answer may have: it may fill the context unless `max_tokens` is less."""
    wanted = request.sampling.get("max_tokens")
    return min(wanted, context) if isinstance(wanted, int) else context


def _as_http(request: GenerateRequest, model: str, context: int) -> tuple[str, dict[str, object]]:
    """Path and body. vLLM would cut at 16 tokens without `max_tokens`, and refuse more than the context."""
    wanted = request.sampling.get("max_tokens")
    most = _most(request, context) if wanted is None or isinstance(wanted, int) else wanted
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
