"""What an engine is to its callers: started once, asked for completions, stopped; or it dies and says why.

Two implementations keep this protocol: `VllmEngine` (a vLLM server as a subprocess) and `SimulatedEngine`
(the engine model on the time of the event loop).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from samullm_tui.domain.errors import EngineError, InputError, Problem
from samullm_tui.domain.plan import Replica

__all__ = [
    "Begun",
    "Completion",
    "Engine",
    "EngineStats",
    "GenerateRequest",
    "PartialAnswerError",
    "RequestRefusedError",
    "Started",
]


class RequestRefusedError(InputError):
    """The request itself is wrong (prompt too long, bad sampling): another attempt would be refused as well.

    Not an EngineError, so that `except EngineError: retry` lets it through. Its text never holds the prompt.
    """


class Begun(Struct, frozen=True, kw_only=True):
    """What an engine has of an answer that it was stopped in: `output_tokens`, of `pieces` engines so far.

    Of a real engine also what another needs to go on: the ids of the prompt as it was rendered, the ids that were
    generated, and their text.
    """

    output_tokens: int
    pieces: int = 1
    prompt_ids: Sequence[int] = ()
    token_ids: Sequence[int] = ()
    text: str = ""


class PartialAnswerError(EngineError):
    """The attempt ended in the middle of the answer; another engine can go on from `begun`."""

    def __init__(self, problem: Problem, begun: Begun) -> None:
        super().__init__(problem)
        self.begun = begun


class GenerateRequest(Struct, frozen=True, kw_only=True):
    """One attempt at one request. `key` is unique among the attempts in flight on this engine.

    `prompt` is the text (as one user message when `chat`), or `token_ids` the tokens themselves where there are some;
    `sampling` are vLLM sampling parameters.
    `prompt_tokens` (an estimate is enough), `output_tokens` (drawn), and the number of the prefix that it shares with
    other requests (-1: none) and how many of the prompt's tokens are of it, are what a simulated engine computes with;
    a real engine ignores them. `begun`: the answer goes on from there, and comes back whole.
    """

    key: int
    prompt: str = ""
    token_ids: tuple[int, ...] = ()
    chat: bool = False
    sampling: Mapping[str, object] = field(default_factory=dict)
    prompt_tokens: int = 1
    output_tokens: int | None = None
    prefix: int = -1
    prefix_tokens: int = 0
    begun: Begun | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer. `finish_reason` is "stop" or "length": an aborted answer is an EngineError, never this.

    `pieces`: how many engines it comes from, one after another.
    """

    text: str
    token_ids: tuple[int, ...] | None
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    pieces: int = 1


class Started(Struct, frozen=True):
    """`load_s`: from start to the first token generated. `kv_blocks` as the engine reports them; None: not told."""

    load_s: float
    kv_blocks: int | None = None


class EngineStats(Struct, frozen=True, kw_only=True):
    """What the engine counts now. Totals are since its start; `kv_usage` is a share from 0 to 1, None: not known.

    steps_total            engine steps; 0: not told
    prefill_tokens_total   prompt tokens computed, those found in the prefix cache not among them
    generated              output tokens so far of each unfinished request, by its key; None: the engine does not tell
    """

    running: int
    waiting: int
    kv_usage: float | None = None
    preemptions_total: int = 0
    output_tokens_total: int = 0
    steps_total: int = 0
    prefill_tokens_total: int = 0
    generated: Mapping[int, int] | None = None


class Engine(Protocol):
    """One engine, used from one event loop, started at most once."""

    @property
    def replica(self) -> Replica: ...

    @property
    def max_in_flight(self) -> int:
        """How many `generate` calls keep the engine busy; more only wait in its queue."""

    async def start(self) -> Started:
        """Returns when one token was generated. Raises EngineStartError (nothing is left running), or
        EngineMissingError when the engine's software is not installed.
        """

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion. Raises EngineError: this attempt failed, another may succeed (PartialAnswerError: from where
        this one ended); RequestRefusedError: none will. Cancelling it gives the attempt up; the engine stops working
        on it.
        """

    async def stats(self) -> EngineStats:
        """Raises EngineError when the engine does not answer."""

    async def stop(self) -> None:
        """Ends the engine; generations in flight end with EngineError, those that have tokens with PartialAnswerError.
        Every process of it is gone on return. May be called at any time, also twice, also while `start` is under way.
        """

    async def failed(self) -> str:
        """Returns the cause, one sanitised line, when the engine dies though nobody stopped it; else waits for ever."""
