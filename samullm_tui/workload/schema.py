"""The application file as pydantic sees it: types and ranges of every key. What keys mean together: checks.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from samullm_tui.workload.border import NAME_PATTERN, Strict, mistake

__all__ = ["DataModel", "HeaderModel", "LLMModel", "NodeModel", "SyntheticModel"]

MAX_TOKENS = 10_000_000
MAX_RECORDS = 1_000_000
MAX_REPEATS = 1_000

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Count = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


def _scalar(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise mistake("not a single value", "a text, a number, true or false")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise mistake(f"{value} is not a tensor-parallel size", "1, 2, 4, 8, 16, 32 or 64")
    return value


Single = Annotated[Any, BeforeValidator(_scalar)]
TensorParallel = Annotated[
    int, Field(ge=1, le=64), BeforeValidator(lambda v: _power_of_two(v) if type(v) is int and v > 0 else v)
]


class HeaderModel(Strict):
    name: Name = Field(description="the name of the application")
    title: str = ""
    llms: dict[str, Any] = Field(description="a table [llms.NAME] for each LLM")
    data: dict[str, Any] = Field(description="a table [data.NAME] for each data set")
    nodes: dict[str, Any] = Field(description="a table [nodes.NAME] for each node")


class LLMModel(Strict):
    checkpoint: Text = Field(description="a Hugging Face id, a folder, or tiny:llama, tiny:qwen3, tiny:gpt2")
    lengths: Text | None = None
    context: Tokens | None = None
    tp: list[TensorParallel] = Field(default_factory=list)
    revision: Text | None = None
    trust_remote_code: bool = False
    engine: dict[str, Single] = Field(default_factory=dict)


class LogNormal(Strict):
    median: float = Field(ge=1, le=MAX_TOKENS, description="half of the values are under it")
    p90: float = Field(ge=1, le=MAX_TOKENS, description="nine in ten values are under it")
    max: Tokens | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p90 < self.median:
            raise mistake(f"p90 {self.p90:g} is under the median {self.median:g}", "p90 at least the median")
        return self


def _amount(value: object) -> object:
    """A whole number stands for itself in every record."""
    return {"uniform": [value, value]} if type(value) is int else value


class Distribution(Strict):
    """How a number is drawn."""

    uniform: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    lognormal: LogNormal | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        _exactly_one(self)
        if self.uniform and self.uniform[0] > self.uniform[1]:
            raise mistake(f"uniform from {self.uniform[0]} to {self.uniform[1]}", "the smaller number first")
        return self


Amount = Annotated[Distribution, BeforeValidator(_amount)]


class ListField(Strict):
    count: Amount = Field(description="how many elements a record has")
    tokens: Amount = Field(description="how many tokens an element has")


class FieldDistribution(Distribution):
    """How a field is drawn: a number of tokens, a label, or a list of token counts."""

    choice: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None
    list_: ListField | None = Field(default=None, alias="list")


def _exactly_one(model: Distribution) -> None:
    fields = type(model).model_fields
    given = [field.alias or name for name, field in fields.items() if getattr(model, name) is not None]
    if len(given) != 1:
        kinds = ", ".join(field.alias or name for name, field in fields.items())
        wrong = f"{' and '.join(given)} together" if given else "says nothing about the values"
        raise mistake(wrong, f"a whole number, or one of {kinds}")


class SyntheticModel(Strict):
    records: int = Field(ge=1, le=MAX_RECORDS, description="how many records")
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    fields: Annotated[
        dict[str, Annotated[FieldDistribution, BeforeValidator(_amount)]], Field(min_length=1)
    ] = Field(description="a table of fields, each with its number of tokens")


class DataModel(Strict):
    file: Text | None = None
    synthetic: SyntheticModel | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.synthetic is None):
            wrong = "file and synthetic together" if self.file else "neither file nor synthetic"
            raise mistake(wrong, 'file = "….jsonl" for texts, or a table synthetic for lengths only')
        return self


class WhereModel(Strict):
    field: Text = Field(description="the field of the record to route by")
    equals: Single = Field(description="the value that the field must have")


class NodeModel(Strict):
    llm: str = Field(description="the name of one of [llms]")
    takes: Annotated[list[str], Field(min_length=1), BeforeValidator(_as_list)] = Field(
        alias="from", description="a data set and/or nodes"
    )
    prompt: Text = Field(description="the template of the prompt")
    where: WhereModel | None = None
    join: Literal["all", "any"] = "all"
    chain: Text | None = None
    n: int = Field(default=1, ge=1, le=MAX_REPEATS)
    chat: bool = False
    sampling: dict[str, Any] = Field(default_factory=dict)
    output_tokens: Text | None = None
