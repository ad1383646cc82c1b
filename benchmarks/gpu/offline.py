"""vLLM's own offline `generate`: a question as JSON on stdin, `{"tokens", "took_s"}` as the last line of stdout.

The clock starts when one token was generated, as it does for the product.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

__all__ = ["answer"]


def answer(question: dict[str, Any]) -> dict[str, float]:
    vllm = import_module("vllm")
    llm = vllm.LLM(**question["engine"])
    one = vllm.SamplingParams(max_tokens=1, ignore_eos=True)
    llm.generate(["a"], one, use_tqdm=False)
    sampling = vllm.SamplingParams(max_tokens=question["tokens"], ignore_eos=True, temperature=1.0)
    began_s = time.monotonic()
    outputs = llm.generate(question["prompts"], sampling, use_tqdm=False)
    took_s = time.monotonic() - began_s
    return {"tokens": sum(len(one.outputs[0].token_ids) for one in outputs), "took_s": took_s}


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    print(json.dumps(answer(json.load(sys.stdin))))
