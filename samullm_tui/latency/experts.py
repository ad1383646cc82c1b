"""A mixture of experts measured on steps that repeat one token, and on text.

Where all tokens of all sequences are the same, their hidden states are too: attention averages equal values, whatever
the positions. So the router gives all of them the same experts, and a step reads as few as one token meets. Profilers
that make up their prompts of token 0 (the SamuLLM authors' does) measure that. Tokens of text differ: a step reads
E·(1 − (1 − k/E)^T) experts (`model.iteration_s`).
"""

from __future__ import annotations

from msgspec import structs

from samullm_tui.latency.model import DISTINCT_EXPERT, IterationLatency

__all__ = ["of_one_token", "of_text"]


def of_one_token(latency: IterationLatency) -> IterationLatency:
    """On steps that repeat one token: k experts whatever their number. A dense LLM stays as it is."""
    return structs.replace(latency, experts=latency.experts_per_token)


def of_text(measured: IterationLatency, estimate: IterationLatency) -> IterationLatency:
    """On text, from what was measured on steps that repeat one token, fitted as a dense LLM's.

    The experts of one token are in the measured constant; what each further one costs is that of `estimate`, of the
    same LLM, GPU and tp. For a dense LLM: `measured`.
    """
    if not estimate.experts:
        return measured
    expert_s = estimate.coefficients[DISTINCT_EXPERT]
    coefficients = list(measured.coefficients)
    coefficients[0] = max(coefficients[0] - estimate.experts_per_token * expert_s, 0.0)
    coefficients[DISTINCT_EXPERT] = expert_s
    return IterationLatency(tuple(coefficients), estimate.experts, estimate.experts_per_token)
