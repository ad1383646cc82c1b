"""An application: LLMs, data sets, and the nodes that use one LLM on records or on other nodes' outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

__all__ = ["LLM", "Application", "DataSet", "Node", "Scalar", "Where"]

Scalar = bool | int | float | str


class LLM(Struct, frozen=True, kw_only=True):
    """A checkpoint and how to serve it.

    `checkpoint` is a Hugging Face id, an absolute folder, or `tiny:llama|qwen3|gpt2`.
    `lengths` names the table of output lengths to plan with (default: last part of the checkpoint).
    `context` is the largest number of tokens of a request, prompt and output together (vLLM's max_model_len).
    `tp` limits the tensor-parallel sizes to consider; empty: all that fit.
    `engine` holds further vLLM engine arguments by their Python names (`max_num_seqs`, `dtype`, …).
    """

    name: str
    checkpoint: str
    lengths: str
    context: int | None = None
    tp: tuple[int, ...] = ()
    revision: str | None = None
    trust_remote_code: bool = False
    engine: Mapping[str, Scalar] = field(default_factory=dict)


class DataSet(Struct, frozen=True, kw_only=True):
    """Where records come from: a file (absolute path), or lengths drawn from a seed (`synthetic`)."""

    name: str
    file: str | None = None
    synthetic: Mapping[str, object] | None = None

    @property
    def has_texts(self) -> bool:
        return self.file is not None


class Where(Struct, frozen=True):
    """Routing: only records whose `field` equals `equals` reach the node."""

    field: str
    equals: Scalar


class Node(Struct, frozen=True, kw_only=True):
    """One use of an LLM.

    `data` is the data set that the node's records come from (its own, or that of its sources).
    `sources` are the nodes whose outputs it takes; with join "all" a request needs all of them,
    with join "any" each source's output makes a request of its own.
    `chain` names a list field of the record: one request per element, each after the one before.
    `n` repeats each request. `prompt` is a template over fields, source names, `item` and `previous`.
    `sampling` are vLLM sampling parameters.
    `output_tokens` names a field that tells how many tokens the output will have, where the data know.
    """

    name: str
    llm: str
    data: str
    prompt: str
    sources: tuple[str, ...] = ()
    join: Literal["all", "any"] = "all"
    where: Where | None = None
    chain: str | None = None
    n: int = 1
    chat: bool = False
    sampling: Mapping[str, object] = field(default_factory=dict)
    output_tokens: str | None = None

    @property
    def max_tokens(self) -> int | None:
        value = self.sampling.get("max_tokens")
        return value if isinstance(value, int) else None

    @property
    def draws_from_seed(self) -> bool:
        """Whether its answers are drawn at random, from a seed that the application gives."""
        return self.sampling.get("seed") is not None and self.sampling.get("temperature") != 0


class Application(Struct, frozen=True, kw_only=True):
    """A whole application. `file` is where it was read from, `sha256` the digest of that file's bytes.

    Nodes stand in an order in which every node comes after its sources.
    """

    name: str
    title: str
    file: str
    sha256: str
    llms: tuple[LLM, ...]
    data: tuple[DataSet, ...]
    nodes: tuple[Node, ...]

    def llm(self, name: str) -> LLM:
        return next(llm for llm in self.llms if llm.name == name)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @property
    def has_texts(self) -> bool:
        """Whether every data set has texts, so that the application can run on real engines."""
        return all(data.has_texts for data in self.data)
