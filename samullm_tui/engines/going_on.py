"""Going on elsewhere with an answer that an engine was stopped in: what of it can be kept, and how it is asked for.

The other engine gets the ids of prompt and answer as one prompt, and decodes what it adds by itself. So the seam must be
where text can be cut: a character's bytes may be spread over tokens, and a stop string is not found across a seam.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set

from samullm_tui.engines.protocol import Begun, Completion

__all__ = ["can_go_on", "find_seam", "joined", "less"]

LOOK_BACK = 16
"""So many tokens before the end it looks for a seam. A character has four bytes at most; junk may take longer."""
PROMPT_TAIL = 16
"""Tokens of the prompt that the answer is decoded behind, as the engine did: some decoders mind what stands before."""
UNFINISHED = "\ufffd"
"""What a decoder gives for bytes that are no character, or not yet."""
LOOKS_BACK = frozenset({"bad_words", "structured_outputs", "repetition_detection", "thinking_token_budget"})
"""Sampling that depends on what was generated before, which another engine would take for prompt."""

Detokenize = Callable[[Sequence[int]], Awaitable[str]]


def can_go_on(sampling: Mapping[str, object]) -> bool:
    """Whether an answer that goes on elsewhere comes from the same distribution as a whole one."""
    penalties = sampling.get("presence_penalty") or sampling.get("frequency_penalty")
    return not penalties and LOOKS_BACK.isdisjoint(sampling)


async def find_seam(
    begun: Begun, sampling: Mapping[str, object], specials: Set[int], detokenize: Detokenize
) -> tuple[int, str]:
    """How many of its tokens can be kept, and their text. (0, ""): none.

    `specials`: ids that a text does not show unless it is asked to; `detokenize` shows them.
    """
    hidden: Set[int] = frozenset() if sampling.get("skip_special_tokens") is False else specials

    async def decode(token_ids: Sequence[int]) -> str:
        return await detokenize([one for one in token_ids if one not in hidden])

    starts = _starts(sampling.get("stop"))
    before = begun.prompt_ids[-PROMPT_TAIL:]
    head = await decode(before)
    count = len(begun.token_ids)
    for kept in range(count, max(0, count - LOOK_BACK), -1):
        whole = await decode([*before, *begun.token_ids[:kept]])
        text = whole[len(head) :]
        if (
            whole.startswith(head)
            and begun.text.startswith(text)
            and not text.endswith((UNFINISHED, *starts))
        ):
            return kept, text
    return 0, ""


def _starts(stop: object) -> list[str]:
    """Whatever a stop string can begin with."""
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return [one[:end] for one in stops for end in range(1, len(one))]


def less(sampling: Mapping[str, object], most: int, kept: int) -> dict[str, object]:
    """The sampling of the rest of an answer of at most `most` tokens, of which there are `kept`.

    Without a seed: it would draw from the beginning again what was drawn for the kept tokens.
    """
    rest: dict[str, object] = {**sampling, "max_tokens": max(1, most - kept)}
    rest.pop("seed", None)
    least = sampling.get("min_tokens")
    if isinstance(least, int):
        rest["min_tokens"] = max(0, least - kept)
    return rest


def joined(begun: Begun, kept: int, text: str, rest: Completion) -> Completion:
    """The whole answer: the kept tokens and their text, then the rest."""
    return Completion(
        text=text + rest.text,
        token_ids=None if rest.token_ids is None else (*begun.token_ids[:kept], *rest.token_ids),
        finish_reason=rest.finish_reason,
        prompt_tokens=len(begun.prompt_ids),
        output_tokens=kept + rest.output_tokens,
        pieces=begun.pieces + 1,
    )
