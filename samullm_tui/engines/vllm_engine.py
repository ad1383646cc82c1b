"""A vLLM server as a subprocess under a keeper, spoken to over HTTP on the loopback."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from pathlib import Path

from samullm_tui.domain.application import LLM
from samullm_tui.domain.errors import EngineError, EngineStartError, Problem
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.checkpoint import check_checkpoint
from samullm_tui.engines.installed import Device, require_vllm
from samullm_tui.engines.kept_process import KeptProcess
from samullm_tui.engines.log_cause import cause_of
from samullm_tui.engines.ports import free_port
from samullm_tui.engines.protocol import Completion, EngineStats, GenerateRequest, Started
from samullm_tui.engines.tiny import resolve_checkpoint
from samullm_tui.engines.vllm_client import VllmClient
from samullm_tui.engines.vllm_command import cookie_of, serve_command

__all__ = ["VllmEngine"]

START_DEADLINE_S = {"cpu": 300.0, "gpu": 1800.0}
"""A large checkpoint from a slow disk takes many minutes; a tiny one on a busy two-core machine two."""
HEALTH_POLL_S = 0.25
IN_FLIGHT = {"cpu": 64, "gpu": 256}
LOG_TAIL_BYTES = 64 * 1024
# What the caller's environment must not decide: other GPUs, another key.
DROPPED = ("VLLM_API_KEY", "CUDA_VISIBLE_DEVICES")


class VllmEngine:
    """Keeps the engine protocol. `log` gets all that the server prints; it is never shown whole."""

    def __init__(
        self, llm: LLM, replica: Replica, *, run: str, epoch: int, log: Path, device: Device
    ) -> None:
        self.replica = replica
        self.max_in_flight = IN_FLIGHT[device]
        self._llm = llm
        self._device: Device = device
        self._cookie = cookie_of(run, replica, epoch)
        self._log = log
        self._log_start = 0
        self._key = secrets.token_urlsafe(24)
        self._process: KeptProcess | None = None
        self._client: VllmClient | None = None
        self._stopping = False

    async def start(self) -> Started:
        """Ready means that one token was generated."""
        began = time.monotonic()
        require_vllm(self._device)
        checkpoint = await asyncio.to_thread(resolve_checkpoint, self._llm.checkpoint)
        check_checkpoint(self._llm, checkpoint)
        try:
            kv_blocks = await self._start(checkpoint)
        except BaseException:
            await self.stop()
            raise
        return Started(time.monotonic() - began, kv_blocks)

    async def _start(self, checkpoint: str) -> int | None:
        port = free_port()
        command = serve_command(
            self._llm,
            checkpoint,
            self.replica,
            port,
            device=self._device,
            cookie=self._cookie,
            api_key=self._key,
            python=sys.executable,
        )
        inherited = {name: value for name, value in os.environ.items() if name not in DROPPED}
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        self._process = await KeptProcess.start(
            command.argv, inherited | dict(command.env), self._log, self._cookie
        )
        self._client = VllmClient(f"http://127.0.0.1:{port}", self._cookie, self._key)
        await self._until_healthy(self._process, self._client)
        await self._client.check_identity()
        await self._client.complete(
            GenerateRequest(key=0, prompt="a", sampling={"max_tokens": 1, "min_tokens": 1})
        )
        return await self._client.kv_blocks()

    async def _until_healthy(self, process: KeptProcess, client: VllmClient) -> None:
        """Raises EngineStartError when the server ends, or does not answer in time."""
        exited = asyncio.create_task(process.exited())
        limit_s = START_DEADLINE_S[self._device]
        try:
            async with asyncio.timeout(limit_s):
                while not await client.is_healthy():
                    done, _ = await asyncio.wait({exited}, timeout=HEALTH_POLL_S)
                    if done:
                        raise self._not_started(f"the server ended with status {exited.result()}")
        except TimeoutError:
            raise self._not_started(f"no answer within {limit_s:.0f} s") from None
        finally:
            exited.cancel()

    async def generate(self, request: GenerateRequest) -> Completion:
        if self._client is None or self._stopping:
            raise EngineError(Problem(self.replica.name, "", "the engine does not serve"))
        return await self._client.complete(request)

    async def stats(self) -> EngineStats:
        if self._client is None:
            raise EngineError(Problem(self.replica.name, "", "the engine does not serve"))
        return await self._client.stats()

    async def stop(self) -> None:
        self._stopping = True
        client, self._client = self._client, None
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
        if client is not None:
            await client.close()

    async def failed(self) -> str:
        process = self._process
        assert process is not None, "the engine was started"
        status = await process.exited()
        if self._stopping:
            await asyncio.Event().wait()
        return self._cause(f"the server ended with status {status}")

    def _not_started(self, what: str) -> EngineStartError:
        return EngineStartError(
            Problem(self.replica.name, "", self._cause(what), f"its log: {self._log.name}")
        )

    def _cause(self, what: str) -> str:
        """What the log says, else `what`."""
        try:
            with self._log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, end - LOG_TAIL_BYTES))
                return cause_of(file.read().decode(errors="replace")) or what
        except OSError:
            return what
