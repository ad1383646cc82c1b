"""What a run looks like, about once a second of its own time, as `Sampled` events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import EngineError
from samullm_tui.domain.event import EngineSample, GpuSample, HostSample, Sampled
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.protocol import Engine, EngineStats
from samullm_tui.supervisor.asking import Clock, Recorder
from samullm_tui.supervisor.perform import Runner
from samullm_tui.telemetry.gpu import GpuSampler
from samullm_tui.telemetry.host import sample_host

__all__ = ["Footprint", "Sampler", "period_s"]

SAMPLES_WIDEN = 300
STATS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a replica takes on each of its GPUs: always, and with a full KV cache on top."""

    weight_bytes: int
    kv_bytes: int


def period_s(elapsed_s: float, *, simulated: bool) -> float:
    """Seconds to the next sample. The samples of a simulated run thin out, or a day at full speed would give 86,400:
    this way it gives about 2,000.
    """
    return max(1.0, elapsed_s / SAMPLES_WIDEN) if simulated else 1.0


class Sampler:
    """Samples `runner` until it is cancelled. `gpus` None: the engines are simulated, and so are the samples."""

    def __init__(
        self,
        runner: Runner,
        cluster: Cluster,
        *,
        recorder: Recorder,
        clock: Clock,
        footprint: Callable[[Replica], Footprint | None],
        gpus: GpuSampler | None,
        folder: Path,
    ) -> None:
        self._runner = runner
        self._cluster = cluster
        self._recorder = recorder
        self._clock = clock
        self._footprint = footprint
        self._gpus = gpus
        self._folder = folder
        self._before: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        began_s = self._clock()
        while True:
            await asyncio.sleep(period_s(self._clock() - began_s, simulated=self._gpus is None))
            if self._gpus is None and not self._runner.is_busy():
                # At full speed a timer without work beside it would spin.
                self._runner.activity.clear()
                await self._runner.activity.wait()
                continue
            await self._sample()

    async def _sample(self) -> None:
        stats = {engine.replica: await self._stats(engine) for engine in self._runner.engines()}
        now_s = self._clock()
        engines = tuple(self._engine_sample(replica, one, now_s) for replica, one in stats.items())
        gpus = self._gpus.latest() if self._gpus else self._simulated_gpus(stats)
        self._recorder.emit(Sampled(at_s=now_s, gpus=gpus, engines=engines, host=await self._host()))

    async def _stats(self, engine: Engine) -> EngineStats:
        """What the engine says, else what the dispatcher knows."""
        try:
            # A simulated engine answers at once, in any time.
            async with asyncio.timeout(None if self._gpus is None else STATS_TIMEOUT_S):
                stats = await engine.stats()
        except (EngineError, TimeoutError):
            name = engine.replica.name
            lane = self._runner.state.ledger.lanes.of.get(name)
            sent = len(lane.sent) if lane else 0
            return EngineStats(running=sent, waiting=0, output_tokens_total=self._runner.output_tokens(name))
        state = self._runner.state
        state.watch.read(engine.replica, stats, self._clock(), state.ledger)
        self._runner.observe(engine.replica, stats)
        return stats

    def _engine_sample(self, replica: Replica, stats: EngineStats, now_s: float) -> EngineSample:
        ready_s = self._runner.state.engines[replica.name].ready_s
        before_s, before = self._before.get(replica.name, (ready_s, 0))
        if before_s < ready_s:  # of its last start
            before_s, before = ready_s, 0
        self._before[replica.name] = (now_s, stats.output_tokens_total)
        made, took_s = stats.output_tokens_total - before, now_s - before_s
        return EngineSample(
            replica=replica.name,
            llm=replica.llm,
            running=stats.running,
            waiting=stats.waiting,
            kv_usage=stats.kv_usage,
            output_tokens_per_s=max(0.0, made / took_s) if took_s > 0 else 0.0,
        )

    async def _host(self) -> HostSample | None:
        """The machine; of no interest where the engines are simulated."""
        if self._gpus is None:
            return None
        return await asyncio.to_thread(sample_host, self._folder)

    def _simulated_gpus(self, stats: Mapping[Replica, EngineStats]) -> tuple[GpuSample, ...]:
        held = {gpu: replica for replica in stats for gpu in replica.gpus}
        return tuple(self._simulated_gpu(gpu, held.get(gpu), stats) for gpu in range(self._cluster.gpus))

    def _simulated_gpu(
        self, gpu: int, replica: Replica | None, stats: Mapping[Replica, EngineStats]
    ) -> GpuSample:
        total = self._cluster.gpu.memory_bytes
        if replica is None:
            return GpuSample(gpu, 0.0, 0, total, simulated=True)
        footprint = self._footprint(replica)
        one = stats[replica]
        used = int(footprint.weight_bytes + (one.kv_usage or 0.0) * footprint.kv_bytes) if footprint else None
        return GpuSample(gpu, float(one.running > 0), used, total, simulated=True)
