"""The border: pydantic's errors become our problems, all of them at once, in words that say what would be right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from samullm_tui.workload.problems import Problems, did_you_mean, shown

__all__ = ["NAME_PATTERN", "Strict", "mistake", "validate"]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
NAME_RULE = "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64"

_KINDS = {
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "list_type": "a list in [ ]",
    "dict_type": "a table",
    "model_type": "a table",
}
_LIMITS = {"greater_than_equal": "ge", "less_than_equal": "le", "greater_than": "gt", "less_than": "lt"}
_WORDS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


class Strict(BaseModel):
    """Base of everything read at the border: no conversions, no unknown keys."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=False
    )


ModelT = TypeVar("ModelT", bound=Strict)


def mistake(wrong: str, right: str) -> PydanticCustomError:
    """What a validator raises to say something of its own."""
    return PydanticCustomError("said", "{wrong}", {"wrong": wrong, "right": right})


def validate(
    model: type[ModelT], value: object, place: str, problems: Problems, stand_ins: Mapping[str, object]
) -> tuple[ModelT, frozenset[str]]:
    """`value` as a `model`, and the keys that were wrong.

    Wrong keys are reported and left out, or taken from `stand_ins` where the model needs them,
    so that the rest can still be checked.
    """
    table = value if isinstance(value, dict) else {}
    errors = _errors(model, value)
    if not errors:
        return model.model_validate(value), frozenset()
    bad = {str(item["loc"][0]) for item in errors if item["loc"]}
    kept = {key: item for key, item in table.items() if key not in bad}
    missing = {key: item for key, item in stand_ins.items() if key not in kept}
    whole = all(item["loc"] for item in errors)
    again = _errors(model, {**kept, **missing}) if whole else []
    for item in (*errors, *again):
        problems.add(*_as_problem(item, model, place))
    if again or not whole:
        return model.model_validate(stand_ins), frozenset({*table, *stand_ins})
    return model.model_validate({**kept, **missing}), frozenset(bad | set(missing))


def _errors(model: type[BaseModel], value: object) -> list[ErrorDetails]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _as_problem(item: ErrorDetails, model: type[BaseModel], place: str) -> tuple[str, str, str]:
    loc = [str(part) for part in item["loc"]]
    at = ".".join([*([place] if place else []), *loc])
    kind, context = item["type"], item.get("ctx", {})
    if kind == "said":
        return at, str(context["wrong"]), str(context["right"])
    if kind == "extra_forbidden":
        return at, f"unknown key {loc[-1]!r}", _unknown_key(item, loc, model)
    if kind == "missing":
        return at, "missing", _description(model, loc)
    value = shown(item["input"])
    if kind in _KINDS:
        return at, f"{value} is not {_KINDS[kind]}", ""
    if kind in _LIMITS:
        limit = _LIMITS[kind]
        return at, f"{value} is out of range", f"{_WORDS[limit]} {context[limit]}"
    if kind == "literal_error":
        return at, f"{value} is not allowed", f"one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return at, f"{value} is not a name", NAME_RULE
    return at, f"{value}: {item['msg']}", ""


def _unknown_key(item: ErrorDetails, loc: list[str], model: type[BaseModel]) -> str:
    if len(loc) == 1 and isinstance(item["input"], dict) and loc[0][:1].isdigit():
        return 'a name with a dot in it is quoted, such as [llms."Llama-3.1-8B"]'
    return did_you_mean(loc[-1], _keys(_inner(model, loc[:-1])))


def _inner(model: type[BaseModel], loc: list[str]) -> type[BaseModel]:
    """The model that holds what stands at `loc`."""
    for part in loc:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = next(_models(field.annotation), model)
    return model


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models somewhere in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _description(model: type[BaseModel], loc: list[str]) -> str:
    inner: Any = _inner(model, loc[:-1])
    for name, field in inner.model_fields.items():
        if loc[-1] == (field.alias or name) and field.description:
            return f"needed: {field.description}"
    return "needed"
