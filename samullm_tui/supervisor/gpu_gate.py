"""No engine starts on a GPU whose memory is in use: by others, or still by an engine that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from samullm_tui.domain.errors import EngineError, Problem
from samullm_tui.domain.event import GpuSample
from samullm_tui.domain.plan import Replica

__all__ = ["PATIENCE_S", "GpuGate", "GpuTakenError"]

IDLE_SHARE = 0.05
"""Of a GPU's memory: what a driver, or a screen, may take of it. vLLM asks for 92 % and does not look who has the rest."""
PATIENCE_S = 120.0
"""A driver frees the memory of a large engine within seconds; whoever still has it then will keep it."""
FIRST_SAMPLE_S = 5.0
LOOK_S = 1.0
GIB = 1024**3

Samples = Callable[[], tuple[GpuSample, ...]]


class GpuTakenError(EngineError):
    """A GPU stayed in use."""

    def __init__(self, gpu: int, cause: str) -> None:
        super().__init__(Problem(f"GPU {gpu}", "", cause))
        self.gpu = gpu
        self.cause = cause


class GpuGate:
    """`samples`: what the GPUs were last seen to do, by index; empty before the first look. None: there are no GPUs.

    A GPU whose memory nobody can tell is let through.
    """

    def __init__(self, samples: Samples | None, patience_s: float = PATIENCE_S) -> None:
        self._samples = samples
        self._patience_s = patience_s

    async def until_free(self, replica: Replica, tell: Callable[[str], None]) -> None:
        """Waits for the GPUs of `replica`, on which nothing of this run is left; `tell` is told once that it waits.

        Raises GpuTakenError when one stays in use.
        """
        if self._samples is None:
            return
        began_s = asyncio.get_running_loop().time()
        waited_s, told = 0.0, False
        while not self._samples() and waited_s < FIRST_SAMPLE_S:
            waited_s = await _look_again(began_s)
        while (taken := _taken(self._samples(), replica)) is not None:
            gpu, used = taken
            if waited_s >= self._patience_s:
                raise GpuTakenError(
                    gpu, f"{used} after {waited_s:.0f} s of waiting, and no engine of this run is on it"
                )
            if not told:
                tell(f"GPU {gpu}: {used}")
            told, waited_s = True, await _look_again(began_s)


async def _look_again(began_s: float) -> float:
    """After a moment: how long it has been waited for."""
    await asyncio.sleep(LOOK_S)
    return asyncio.get_running_loop().time() - began_s


def _taken(samples: tuple[GpuSample, ...], replica: Replica) -> tuple[int, str] | None:
    """The first GPU of the replica that is in use, and how much of it."""
    for sample in samples:
        used, total = sample.memory_used_bytes, sample.memory_total_bytes
        if sample.index in replica.gpus and used is not None and total and used > IDLE_SHARE * total:
            return sample.index, f"{used / GIB:.1f} of its {total / GIB:.1f} GiB are in use"
    return None
