"""Sends requests to engines and records what becomes of them: a row and an event for each end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from msgspec import structs

from samullm_tui.domain.errors import EngineError
from samullm_tui.domain.event import (
    AnyEvent,
    LateAnswerDropped,
    RequestFailed,
    RequestFinished,
    RequestRetried,
)
from samullm_tui.engines.protocol import (
    Completion,
    Engine,
    GenerateRequest,
    PartialAnswerError,
    RequestRefusedError,
)
from samullm_tui.supervisor.ledger import Finish, Sent
from samullm_tui.supervisor.outputs import ErrorRow, OutputRow
from samullm_tui.supervisor.running import RunningState
from samullm_tui.supervisor.texts import Texts

__all__ = [
    "GAVE_UP",
    "KILLS",
    "MAX_RETRIES",
    "NO_ANSWER",
    "Asking",
    "Clock",
    "MakeRequest",
    "Recorder",
    "breaks_the_run",
]

MAX_RETRIES = 3
"""How often a request is tried again after an attempt that failed."""

ANSWER_S = 5.0
"""How long an engine that is stopped is waited for, once it is gone: what it answered may still be on its way here."""

HOLD_S = 1.0
MAX_HOLD_S = 30.0

NO_ANSWER = "no answer after"
GAVE_UP = "engine gave up:"
KILLS = "kills engines:"

Clock = Callable[[], float]
MakeRequest = Callable[[int, int, int, Callable[[int], str]], GenerateRequest]
"""Index, key, prompt tokens, and what gives the output of a request whose output the prompt takes."""


class Recorder(Protocol):
    """Where events and rows go, in this order."""

    def emit(self, event: AnyEvent) -> None: ...

    def output(self, row: OutputRow, event: RequestFinished) -> None: ...

    def error(self, row: ErrorRow, event: RequestFailed) -> None: ...


def breaks_the_run(cause: str) -> bool:
    """Whether an error row with this cause makes the run `failed`: not when the request itself was refused."""
    return cause.startswith((NO_ANSWER, GAVE_UP, KILLS))


class Asking:
    """Must be used inside of `tasks`. Changes the ledger of `state`; `wake` is called after each change."""

    def __init__(
        self,
        state: RunningState,
        *,
        make_request: MakeRequest,
        texts: Texts,
        recorder: Recorder,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
    ) -> None:
        self._state = state
        self._ledger = state.ledger
        self._make_request = make_request
        self._texts = texts
        self._recorder = recorder
        self._clock = clock
        self._tasks = tasks
        self._wake = wake
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._begun = state.begun
        self._stopping: set[str] = set()
        self.output_tokens: dict[str, int] = {}
        """Tokens of finished requests for each replica."""

    def send(self, index: int, engine: Engine) -> None:
        sent = self._ledger.send(index, engine.replica.name, self._clock())
        prompt_tokens = self._ledger.prompt_tokens(index)
        request = self._make_request(index, sent.serial, prompt_tokens, self._texts.get)
        begun = self._begun.get(index)
        if begun is not None:
            request = structs.replace(request, begun=begun)
        self._asked[index] = self._tasks.create_task(self._ask(index, sent, engine, request))

    def take_back(self, index: int, cause: str = "") -> None:
        """Gives the attempt in flight up. With a `cause` it is told."""
        sent = self._ledger.in_flight[index]
        if index in self._asked:
            self._asked.pop(index).cancel()
        self._retry(index, sent, cause, failure=False)

    def stopping(self, replica: str) -> None:
        """The engine is being stopped. Attempts that end with it are nobody's failure: they wait to be taken back, all
        at once and in their order.
        """
        self._stopping.add(replica)

    async def answered(self, replica: str) -> None:
        """Waits until the requests of an engine that is gone have come back, each with the tokens that it has."""
        asked = [self._asked[index] for index in self._ledger.lanes.of[replica].sent if index in self._asked]
        if asked:
            await asyncio.wait(asked, timeout=ANSWER_S)
        self._stopping.discard(replica)

    def fail(self, index: int, cause: str) -> None:
        """An open request ends in an error row, and so does everything that needs it."""
        if index in self._asked:
            self._asked.pop(index).cancel()
        dependents = self._ledger.fail(index)
        self._write_error(index, cause)
        for dependent, source in dependents:
            self.fail_dependent(dependent, source)
        if breaks_the_run(cause):
            self._state.broken = self._state.broken or cause
        self._wake()

    def fail_all(self, llm: str, cause: str) -> None:
        """Every open request of an LLM ends in an error row, and so does everything that needs them."""
        for index in self._ledger.open_of(llm):
            if self._ledger.is_open(index):
                self.fail(index, cause)

    def fail_dependent(self, index: int, source: int) -> None:
        """Writes the error row of a request that the ledger failed because of its source."""
        table = self._ledger.table
        name = table.node_names[table.node[source]]
        self._write_error(index, f"source {name} {table.ids[source]} failed")

    async def _ask(self, index: int, sent: Sent, engine: Engine, request: GenerateRequest) -> None:
        try:
            completion = await engine.generate(request)
        except RequestRefusedError as error:
            if not self._is_current(index, sent):
                return
            if request.begun is None:
                self.fail(index, f"refused: {error}")
            else:  # Only going on was refused.
                self._begun.drop(index)
                self._retry(index, sent, str(error), failure=True)
        except EngineError as error:
            if self._is_current(index, sent):
                self._come_back(index, sent, error)
        else:
            if self._is_current(index, sent):
                self._finish(index, sent, request, completion)

    def _is_current(self, index: int, sent: Sent) -> bool:
        """Whether the attempt still counts. What an older one brought is dropped, and told."""
        if self._ledger.is_current(index, sent.serial):
            self._asked.pop(index)
            return True
        node, id_, _ = self._names(index)
        self._recorder.emit(LateAnswerDropped(at_s=self._clock(), node=node, id=id_, replica=sent.replica))
        return False

    def _come_back(self, index: int, sent: Sent, error: EngineError) -> None:
        """An attempt ended without a result. What there is of its answer is kept."""
        if isinstance(error, PartialAnswerError):
            self._begun.keep(index, error.begun)
        if sent.replica not in self._stopping:
            self._hold(index, sent.replica)
            self._retry(index, sent, str(error), failure=True)

    def _finish(self, index: int, sent: Sent, request: GenerateRequest, completion: Completion) -> None:
        node, id_, llm = self._names(index)
        row = OutputRow(
            id=id_,
            node=node,
            output=completion.text,
            output_token_ids=completion.token_ids,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            output_tokens=completion.output_tokens,
            llm=llm,
            # Without chance it is the answer that one engine would have given.
            continued=0 if request.sampling.get("temperature") == 0 else completion.pieces - 1,
        )
        event = RequestFinished(
            at_s=self._clock(),
            node=node,
            id=id_,
            llm=llm,
            replica=sent.replica,
            prompt_tokens=completion.prompt_tokens,
            output_tokens=completion.output_tokens,
            finish_reason=completion.finish_reason,
            sent_s=sent.sent_s,
            offset=0,
        )
        self._recorder.output(row, event)
        cut = completion.finish_reason == "length"
        self._ledger.finish(index, Finish(completion.output_tokens, event.at_s, cut))
        self._begun.drop(index)
        self._texts.keep(index, completion.text)
        self._texts.release(index)
        self._progress(sent.replica, completion.output_tokens)

    def _progress(self, replica: str, output_tokens: int) -> None:
        engine = self._state.engines[replica]
        engine.starts, engine.failures, engine.hold_until_s = 0, 0, 0.0
        engine.casualties.clear()
        self.output_tokens[replica] = self.output_tokens.get(replica, 0) + output_tokens
        self._wake()

    def _hold(self, index: int, replica: str) -> None:
        """After a failed attempt nothing goes to the replica for a while: it may be about to die."""
        engine = self._state.engines[replica]
        engine.failures += 1
        engine.casualties[index] += 1
        hold_s = min(HOLD_S * 2 ** (engine.failures - 1), MAX_HOLD_S)
        engine.hold_until_s = self._clock() + hold_s
        # A little later than the hold ends, so that rounding cannot make it come too early.
        asyncio.get_running_loop().call_later(hold_s + 0.001, self._wake)

    def _retry(self, index: int, sent: Sent, cause: str, *, failure: bool) -> None:
        failures = self._ledger.take_back(index, failure=failure)
        if failures > MAX_RETRIES:
            self.fail(index, f"{NO_ANSWER} {failures} attempts: {cause}")
            return
        if cause:
            node, id_, _ = self._names(index)
            begun = self._begun.get(index)
            self._recorder.emit(
                RequestRetried(
                    at_s=self._clock(),
                    node=node,
                    id=id_,
                    replica=sent.replica,
                    cause=cause,
                    kept_tokens=begun.output_tokens if begun else 0,
                )
            )
        self._wake()

    def _write_error(self, index: int, cause: str) -> None:
        node, id_, llm = self._names(index)
        self._state.errors[llm] = self._state.errors.get(llm, 0) + 1
        event = RequestFailed(at_s=self._clock(), node=node, id=id_, llm=llm, cause=cause, offset=0)
        self._recorder.error(ErrorRow(id=id_, node=node, error=cause, llm=llm), event)
        self._begun.drop(index)
        self._texts.release(index)

    def _names(self, index: int) -> tuple[str, str, str]:
        table = self._ledger.table
        return table.node_names[table.node[index]], table.ids[index], table.llm_names[table.llm[index]]
