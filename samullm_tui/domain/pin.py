"""What-if: what an operator prescribes for one LLM, whatever a planner would choose."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Pin"]


class Pin(Struct, frozen=True, kw_only=True):
    """What is asked of one LLM and what is forbidden to it; what is empty or None is free.

    tp, dp   exactly these
    gpus     only these GPUs, all or some of them
    stage    the stage, counted from 1, in which it starts
    no_tp, no_dp, no_gpus   none of these
    """

    tp: int | None = None
    dp: int | None = None
    gpus: frozenset[int] = frozenset()
    stage: int | None = None
    no_tp: frozenset[int] = frozenset()
    no_dp: frozenset[int] = frozenset()
    no_gpus: frozenset[int] = frozenset()

    def allows(self, tp: int, dp: int) -> bool:
        """Whether `dp` engines on `tp` GPUs each are what is asked for; GPUs aside."""
        asked = self.tp in (None, tp) and self.dp in (None, dp)
        return asked and tp not in self.no_tp and dp not in self.no_dp

    def allows_gpu(self, gpu: int) -> bool:
        return (not self.gpus or gpu in self.gpus) and gpu not in self.no_gpus
