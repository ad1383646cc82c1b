"""The vLLM parameters that an application may set: sampling of a node, engine arguments of an LLM.

Names and meanings are vLLM's (`SamplingParams`, `EngineArgs`; 0.32). Allowed are those that hold plain data;
what loads code, reads files, opens ports or belongs to the runner is refused with the reason.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from samullm_tui.workload.border import Strict, mistake, validate
from samullm_tui.workload.problems import Problems

__all__ = ["check_engine", "check_sampling"]

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Natural = Annotated[int, Field(ge=0, le=2**31 - 1)]
Share = Annotated[float, Field(gt=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]


def _bias(value: dict[str, float]) -> dict[str, float]:
    for key, bias in value.items():
        if not (key.isascii() and key.isdigit()):
            raise mistake(f"{key!r} is not a token id", "a whole number in quotes")
        if not -100 <= bias <= 100:
            raise mistake(f"a bias of {bias:g} for token {key}", "from -100 to 100")
    return value


class SamplingModel(Strict):
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1 - 1_000)] | None = None
    max_tokens: Positive | None = None
    min_tokens: Natural | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[Natural] | None = None
    bad_words: list[str] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    logit_bias: Annotated[dict[str, float], AfterValidator(_bias)] | None = None
    allowed_token_ids: list[Natural] | None = None
    structured_outputs: dict[str, Any] | None = None
    repetition_detection: dict[str, Any] | None = None
    thinking_token_budget: Natural | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_tokens is not None and self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise mistake(
                f"min_tokens {self.min_tokens} is over max_tokens {self.max_tokens}", "at most max_tokens"
            )
        return self


class EngineModel(Strict):
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    block_size: Positive | None = None
    gpu_memory_utilization: Share | None = None
    kv_cache_memory_bytes: Positive | None = None
    num_gpu_blocks_override: Positive | None = None
    cpu_offload_gb: Annotated[float, Field(ge=0)] | None = None
    long_prefill_token_threshold: Natural | None = None
    max_cudagraph_capture_size: Natural | None = None
    optimization_level: Annotated[int, Field(ge=0, le=3)] | None = None
    seed: Natural | None = None
    dtype: Word | None = None
    kv_cache_dtype: Word | None = None
    quantization: Word | None = None
    load_format: Word | None = None
    safetensors_load_strategy: Word | None = None
    tokenizer_mode: Word | None = None
    attention_backend: Word | None = None
    moe_backend: Word | None = None
    scheduling_policy: Word | None = None
    performance_mode: Word | None = None
    enforce_eager: bool | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    enable_expert_parallel: bool | None = None
    async_scheduling: bool | None = None
    disable_custom_all_reduce: bool | None = None
    disable_cascade_attn: bool | None = None
    disable_sliding_window: bool | None = None
    language_model_only: bool | None = None


_NOT_SAMPLING = {
    **dict.fromkeys(("n", "best_of"), "repeat requests with the node's own key n"),
    **dict.fromkeys(("use_beam_search", "length_penalty", "beam_width"), "beam search cannot be planned"),
    **dict.fromkeys(("stream", "stream_options", "stream_interval"), "outputs are stored whole"),
    **dict.fromkeys(
        ("logprobs", "top_logprobs", "prompt_logprobs", "echo"), "outputs hold the generated text only"
    ),
    **dict.fromkeys(("model", "prompt", "messages", "priority", "user"), "the runner sets it"),
    "max_completion_tokens": "use max_tokens",
    "response_format": "use structured_outputs",
    "truncate_prompt_tokens": "prompts are never cut",
    "detokenize": "outputs are text",
}
_NOT_ENGINE = {
    "tensor_parallel_size": "use the LLM's own key tp",
    "max_model_len": "use the LLM's own key context",
    **dict.fromkeys(("trust_remote_code", "revision"), "it is a key of the LLM itself, not of engine"),
    **dict.fromkeys(
        ("model", "served_model_name", "host", "port", "data_parallel_size"), "the runner sets it"
    ),
    **dict.fromkeys(("api_key", "hf_token"), "secrets belong in the environment"),
    **dict.fromkeys(
        ("scheduler_cls", "worker_cls", "worker_extension_cls", "logits_processors", "middleware"),
        "an application is data: it loads no code",
    ),
}


def check_sampling(value: dict[str, Any], place: str, problems: Problems) -> dict[str, object]:
    """The sampling parameters that are right; reports the others."""
    return _check(SamplingModel, value, place, problems, _NOT_SAMPLING)


def check_engine(
    value: dict[str, Any], place: str, problems: Problems
) -> dict[str, bool | int | float | str]:
    """The engine arguments that are right; reports the others."""
    right = _check(EngineModel, value, place, problems, _NOT_ENGINE)
    return {key: item for key, item in right.items() if isinstance(item, bool | int | float | str)}


def _check(
    model: type[Strict], value: dict[str, Any], place: str, problems: Problems, refused: dict[str, str]
) -> dict[str, object]:
    for key in value.keys() & refused.keys():
        problems.add(f"{place}.{key}", f"{key} cannot be set here", refused[key])
    rest = {key: item for key, item in value.items() if key not in refused}
    checked, _ = validate(model, rest, place, problems, {})
    return checked.model_dump(exclude_none=True)
