"""Which requests to send to an engine so that its steps show what a step costs. Pure.

A load is sent at once and awaited; it consists of streams, each of which sends its requests one after another. There are
three kinds: decode batches of many sizes at several contexts, whose requests end one by one; prompts of many lengths, alone
and in company; and mixtures, where prompts are computed while other streams decode.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

__all__ = ["Ask", "Bounds", "Load", "design", "warm_up"]

BATCH_STEP = 4
SHORT_PROMPT = 16
CONTEXT_SHARES = (0.0, 0.25, 0.75)
PROMPT_STEP = 2
DECODE_TOKENS = 32
MOST_DECODE_TOKENS = 160
MIXED_STREAMS = (2, 8, 32)
MIXED_REQUESTS = 3
STEPS_OF_PROMPTS = 8
"""No load has more prompt tokens than so many full steps compute: long contexts in large batches take their time."""


class Ask(Struct, frozen=True):
    """One request: exactly so many tokens in and out."""

    prompt_tokens: int
    output_tokens: int


class Load(Struct, frozen=True):
    """`streams` run side by side, the requests of each one after another."""

    name: str
    streams: tuple[tuple[Ask, ...], ...]


class Bounds(Struct, frozen=True):
    """What the engine can hold: sequences and tokens of a step, tokens of a request, tokens of its KV cache."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    kv_tokens: int
    block_size: int


def warm_up(bounds: Bounds) -> Load:
    """What to send before anything is recorded: the first steps of an engine are slower than all others."""
    longest = min(bounds.max_model_len, bounds.kv_tokens)
    asks = [_fitted(bounds, 1, Ask(longest, 2)), *[_fitted(bounds, 4, Ask(SHORT_PROMPT, DECODE_TOKENS))] * 3]
    return Load("warm-up", tuple((ask,) for ask in asks[: bounds.max_num_seqs]))


def design(bounds: Bounds, rng: np.random.Generator) -> tuple[Load, ...]:
    """The loads, in an order drawn from `rng`, so that a measurement cut short has seen some of everything.

    No request is longer than the context, and the requests of a load that are there together fit in the KV cache and
    in one batch.
    """
    loads = [*_decodes(bounds), *_prompts(bounds), *_mixtures(bounds, rng)]
    return tuple(loads[index] for index in rng.permutation(len(loads)))


def _decodes(bounds: Bounds) -> Iterator[Load]:
    for batch in _ladder(1, bounds.max_num_seqs, BATCH_STEP):
        seen = set()
        for share in CONTEXT_SHARES:
            output = DECODE_TOKENS + min(batch, MOST_DECODE_TOKENS - DECODE_TOKENS)
            prompt = max(SHORT_PROMPT, int(share * bounds.max_model_len))
            ask = _fitted(bounds, batch, Ask(prompt, output))
            if ask not in seen:
                seen.add(ask)
                # They end one by one, so that every smaller batch is seen as well.
                outputs = np.linspace(max(1, ask.output_tokens // 2), ask.output_tokens, batch).astype(int)
                streams = tuple((Ask(ask.prompt_tokens, int(tokens)),) for tokens in outputs)
                yield Load(f"{batch} × {ask.prompt_tokens} tokens, decoding", streams)


def _prompts(bounds: Bounds) -> Iterator[Load]:
    for length in _ladder(SHORT_PROMPT, min(bounds.max_model_len, bounds.kv_tokens), PROMPT_STEP):
        for streams in (1, min(3, bounds.max_num_seqs)):
            ask = _fitted(bounds, streams, Ask(length, 2))
            yield Load(f"{streams} × {ask.prompt_tokens} tokens, prompts", ((ask, ask),) * streams)


def _mixtures(bounds: Bounds, rng: np.random.Generator) -> Iterator[Load]:
    for streams in sorted({min(count, bounds.max_num_seqs) for count in MIXED_STREAMS}):
        longest = _fitted(bounds, streams, Ask(bounds.max_model_len // 2, 2 * DECODE_TOKENS))
        spread = np.log(max(longest.prompt_tokens, 2))

        def drawn(longest: Ask = longest, spread: float = float(spread)) -> Ask:
            prompt = int(np.exp(rng.uniform(0.0, spread)))
            return Ask(max(1, prompt), int(rng.integers(1, longest.output_tokens, endpoint=True)))

        requests = tuple(tuple(drawn() for _ in range(MIXED_REQUESTS)) for _ in range(streams))
        yield Load(f"{streams} streams, mixed", requests)


def _ladder(first: int, last: int, factor: int) -> list[int]:
    """`first`, then times `factor`, up to `last`, which is always in."""
    steps = []
    while first < last:
        steps.append(first)
        first *= factor
    return [*steps, max(1, last)]


def _fitted(bounds: Bounds, batch: int, ask: Ask) -> Ask:
    """`ask`, cut so that `batch` of it fit: first the prompt, then the output."""
    blocks = max(1, bounds.kv_tokens // bounds.block_size // batch)
    room = min(bounds.max_model_len, blocks * bounds.block_size)
    output = max(1, min(ask.output_tokens, room - 1))
    most_prompt = max(SHORT_PROMPT, STEPS_OF_PROMPTS * bounds.max_num_batched_tokens // batch)
    return Ask(max(1, min(ask.prompt_tokens, room - output, most_prompt)), output)
