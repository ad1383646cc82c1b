"""A vLLM server as a subprocess under a keeper, spoken to over HTTP on the loopback."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from samullm_tui.domain.application import LLM
from samullm_tui.domain.cluster import VISIBLE, visible_gpus
from samullm_tui.domain.errors import EngineError, EngineStartError, Problem, SamullmError
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.checkpoint import check_checkpoint, special_tokens
from samullm_tui.engines.installed import Device, require_vllm
from samullm_tui.engines.kept_process import KeptProcess
from samullm_tui.engines.log_cause import cause_of
from samullm_tui.engines.ports import is_listened_on_by, reserved_port
from samullm_tui.engines.processes import marked
from samullm_tui.engines.progress import until_stalled
from samullm_tui.engines.protocol import Completion, EngineStats, GenerateRequest, Started
from samullm_tui.engines.tiny import resolve_checkpoint
from samullm_tui.engines.vllm_client import VllmClient
from samullm_tui.engines.vllm_command import cookie_of, serve_command

__all__ = ["VllmEngine"]

START_DEADLINE_S = {"cpu": 600.0, "gpu": 3600.0}
"""A large checkpoint from a slow disk takes many minutes; a tiny one on a busy two-core machine two."""
HEALTH_POLL_S = 0.25
PORT_ATTEMPTS = 3
IN_FLIGHT = {"cpu": 64, "gpu": 256}
STALL_S = 300.0
ABORT_S = 10.0
"""How long a server that is stopped has for answering what it has in flight with what there is of it."""
MOST_FILES = 65_536
"""Each request in flight is a connection; many systems allow 1,024 open files unless asked for more."""
LOG_TAIL_BYTES = 64 * 1024
PORT_TAKEN = "Address already in use"
# What the caller's environment must not decide: another key; which of its GPUs an engine gets.
DROPPED = ("VLLM_API_KEY", VISIBLE)
FIRST_TOKEN = GenerateRequest(key=0, prompt="a", sampling={"max_tokens": 1, "min_tokens": 1})


class VllmEngine:
    """Keeps the engine protocol. `log` gets all that the server prints; it is never shown whole."""

    def __init__(
        self,
        llm: LLM,
        replica: Replica,
        *,
        run: str,
        epoch: int,
        log: Path,
        device: Device,
        python: str = sys.executable,
        start_deadline_s: float | None = None,
        stall_s: float = STALL_S,
        steps: Path | None = None,
        max_num_seqs: int = 0,
    ) -> None:
        """`python` is the interpreter that has vLLM. An engine with requests that does nothing for `stall_s` is dead.
        `steps` is a file that every step is logged to (step_log). `max_num_seqs`: how many requests it will run at a
        time where `llm` does not say so, 0 when nobody knows.
        """
        self.replica = replica
        seqs = llm.engine.get("max_num_seqs")
        self.max_in_flight = max(IN_FLIGHT[device], seqs if isinstance(seqs, int) else max_num_seqs)
        self._llm = llm
        self._device: Device = device
        self._python = python
        self._cookie = cookie_of(run, replica, epoch)
        self._log = log
        self._steps = "" if steps is None else str(steps)
        self._log_start = 0
        self._specials: frozenset[int] = frozenset()
        self._deadline_s = start_deadline_s or START_DEADLINE_S[device]
        self._stall_s = stall_s
        self._starting: asyncio.Task[Started] | None = None
        self._process: KeptProcess | None = None
        self._client: VllmClient | None = None
        self._in_flight = 0
        self._none_in_flight = asyncio.Event()
        self._is_lost = False
        self._ready = asyncio.Event()
        self._stopping = False

    async def start(self) -> Started:
        """Ready means that one token was generated."""
        require_vllm(self._device)
        self._starting = asyncio.create_task(self._start())
        try:
            return await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            self._starting.cancel()
            await asyncio.wait({self._starting})
            task = asyncio.current_task()
            if self._stopping and task is not None and not task.cancelling():
                raise self._not_started("the engine was stopped") from None
            raise

    async def _start(self) -> Started:
        began_s = time.monotonic()
        _allow_files()
        checkpoint = await asyncio.to_thread(resolve_checkpoint, self._llm.checkpoint)
        check_checkpoint(self._llm, checkpoint)
        self._specials = await asyncio.to_thread(special_tokens, checkpoint)
        try:
            async with asyncio.timeout(self._deadline_s):
                attempt = 1
                while not await self._serve(checkpoint, last=attempt == PORT_ATTEMPTS):
                    attempt += 1
                kv_blocks = await self._first_token()
        except BaseException as error:
            await self._end()
            if isinstance(error, TimeoutError):
                raise self._not_started(f"not ready within {self._deadline_s:.0f} s") from None
            raise
        self._ready.set()
        return Started(time.monotonic() - began_s, kv_blocks)

    async def _serve(self, checkpoint: str, *, last: bool) -> bool:
        """Starts the server and waits until it answers. False: its port was taken by somebody else."""
        with reserved_port() as port:
            key = secrets.token_urlsafe(24)
            command = serve_command(
                self._llm,
                checkpoint,
                self.replica,
                port,
                device=self._device,
                cookie=self._cookie,
                api_key=key,
                python=self._python,
                steps=self._steps,
                visible=visible_gpus(os.environ.get(VISIBLE)),
            )
            inherited = {name: value for name, value in os.environ.items() if name not in DROPPED}
            self._log_start = self._log.stat().st_size if self._log.exists() else 0
            # Its sockets: a short path, as Unix asks for, that is for this user alone.
            scratch = Path(tempfile.mkdtemp(prefix="samullm-"))
            env = inherited | dict(command.env) | {"VLLM_RPC_BASE_PATH": str(scratch)}
            self._process = await KeptProcess.start(
                command.argv, env, self._log, self._cookie, scratch=scratch
            )
            self._client = VllmClient(f"http://127.0.0.1:{port}", self._cookie, key, self._specials)
            cause = await self._until_ours(self._process, self._client, port)
        if cause is None:
            return True
        await self._end()
        if last or PORT_TAKEN not in cause:
            raise self._not_started(cause)
        return False

    async def _until_ours(self, process: KeptProcess, client: VllmClient, port: int) -> str | None:
        """None when the server answers; the cause of its end when it ends before that.

        Whoever else listens on the port is not even asked.
        """
        exited = asyncio.create_task(process.exited())
        try:
            while not (is_listened_on_by(port, marked(self._cookie)) and await client.is_ours()):
                done, _ = await asyncio.wait({exited}, timeout=HEALTH_POLL_S)
                if done:
                    return self._exit_cause(exited.result())
        finally:
            exited.cancel()
        return None

    async def _first_token(self) -> int | None:
        """A checkpoint can load, report healthy, and kill the engine on its first request."""
        assert self._client is not None
        try:
            await self._client.complete(FIRST_TOKEN)
            return await self._client.kv_blocks()
        except SamullmError as error:
            cause = self._log_cause() or "; ".join(problem.wrong for problem in error.problems)
            raise self._not_started(f"no first token: {cause}") from error

    async def generate(self, request: GenerateRequest) -> Completion:
        client = self._serving()
        self._in_flight += 1
        self._none_in_flight.clear()
        try:
            return await client.complete(request)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._none_in_flight.set()

    async def stats(self) -> EngineStats:
        return await self._serving().stats()

    def _serving(self) -> VllmClient:
        if self._client is None or self._stopping or not self._ready.is_set():
            raise EngineError(Problem(self.replica.name, "", "the engine does not serve"))
        return self._client

    async def stop(self) -> None:
        self._stopping = True
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._in_flight and not self._is_lost and self._client is not None:
            await self._give_back(self._client)
        await self._end()

    async def _give_back(self, client: VllmClient) -> None:
        """Requests in flight end with the tokens that they have. A server that cannot do that is ended all the same."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(ABORT_S):
                await client.abort()
                await self._none_in_flight.wait()

    async def _end(self) -> None:
        """Ends the server's processes, then the connections to it: requests in flight fail."""
        try:
            if self._process is not None:
                await self._process.stop()
        finally:
            client, self._client = self._client, None
            if client is not None:
                await client.close()

    async def failed(self) -> str:
        await self._ready.wait()
        process, client = self._process, self._client
        if process is not None and client is not None:
            cause = await self._until_dead(process, client)
            if not self._stopping:
                return cause
        await asyncio.Event().wait()  # It was stopped: there is nothing to tell, ever.
        raise AssertionError

    async def _until_dead(self, process: KeptProcess, client: VllmClient) -> str:
        exited = asyncio.create_task(process.exited())
        stalled = asyncio.create_task(until_stalled(client.stats, lambda: self._in_flight, self._stall_s))
        try:
            await asyncio.wait({exited, stalled}, return_when=asyncio.FIRST_COMPLETED)
            self._is_lost = True
            if exited.done():
                return self._exit_cause(exited.result())
            process.let_go()
            return f"no progress on {self._in_flight} requests for {self._stall_s:.0f} s"
        finally:
            exited.cancel()
            stalled.cancel()

    def _not_started(self, cause: str) -> EngineStartError:
        return EngineStartError(Problem(self.replica.name, "", cause, f"its log is {self._log.name}"))

    def _exit_cause(self, status: int | None) -> str:
        """The cause of an exit. Whoever kills leaves no line in the log."""
        if status is None:
            return "the server was killed together with its keeper"
        if status == -signal.SIGKILL:
            return "the server was killed (SIGKILL: by hand, or by the system for want of memory)"
        what = f"by signal {-status}" if status < 0 else f"with status {status}"
        return self._log_cause() or f"the server ended {what}"

    def _log_cause(self) -> str:
        """What the log of this start says, else an empty text."""
        try:
            with self._log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, end - LOG_TAIL_BYTES))
                return cause_of(file.read().decode(errors="replace"))
        except OSError:
            return ""


def _allow_files() -> None:
    """Lets this process, and the servers that it starts, open as many files as the system allows them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
