"""How one engine is set up, as far as its schedule depends on it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from samullm_tui.domain.errors import InputError, Problem

__all__ = ["POLICIES", "EngineConfig", "Policy"]

Policy = Literal["fcfs", "priority"]
POLICIES: tuple[Policy, ...] = ("fcfs", "priority")


class EngineConfig(Struct, frozen=True):
    """vLLM's settings by their own names.

    `kv_blocks` are blocks of `block_size` tokens as the engine reports them: one is reserved.

    async_scheduling   a step is scheduled before the tokens of the step before it are known. A request that has
                       finished keeps its place and its blocks for one more schedule; one that stopped by itself also
                       takes a slot in that step, for nothing; arrivals are seen one step later.
    prefix_caching     full blocks are kept until they are needed for something else (least recently used first), and
                       found again by requests with the same prefix and by preempted requests.
    scheduling_policy  "priority": the lowest number first, then the earliest arrival; the last in that order is
                       preempted. Else first come, first served, and the last admitted is preempted.

    All three are vLLM 0.32's, read from its source and compared step by step with its own scheduler classes, which are
    driven with made-up tokens (tests/engine). Not compared with a GPU: there the schedule of a step is assumed to see
    what had arrived when the step before it began.

    Raises InputError when no schedule is possible.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    block_size: int
    max_model_len: int
    async_scheduling: bool = False
    prefix_caching: bool = False
    scheduling_policy: Policy = "fcfs"

    def __post_init__(self) -> None:
        least = {
            "max_num_seqs": 1,
            "max_num_batched_tokens": 1,
            "kv_blocks": 2,
            "block_size": 1,
            "max_model_len": 2,
        }
        problems = [
            Problem("", name, f"is {getattr(self, name)}", f"at least {low}")
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if self.scheduling_policy not in POLICIES:
            problems.append(
                Problem("", "scheduling_policy", f"is {self.scheduling_policy!r}", " or ".join(POLICIES))
            )
        if problems:
            raise InputError(problems)

    @property
    def plain(self) -> bool:
        """Whether it is the plain schedule: synchronous, first come first served, nothing cached."""
        return not (self.async_scheduling or self.prefix_caching or self.scheduling_policy != "fcfs")

    @property
    def usable_blocks(self) -> int:
        return self.kv_blocks - 1

    @property
    def most_tokens(self) -> int:
        """The most tokens a request may end with: the context, and what the KV cache holds of one request.

        The last token sampled is never fed, so it needs no place in the cache.
        """
        return min(self.max_model_len, self.usable_blocks * self.block_size + 1)
