"""Reads an application file. Every mistake in it is found before any is said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samullm_tui.domain.application import LLM, Application, DataSet, Node, Where
from samullm_tui.domain.errors import ApplicationError, InputError, Problem
from samullm_tui.workload.border import validate
from samullm_tui.workload.checks import NodePart, Parts, check_parts
from samullm_tui.workload.parameters import check_engine, check_sampling
from samullm_tui.workload.paths import checkpoint_place, data_file
from samullm_tui.workload.problems import Problems
from samullm_tui.workload.schema import DataModel, HeaderModel, LLMModel, NodeModel
from samullm_tui.workload.toml_file import read_toml

__all__ = ["Draft", "draft_application", "load_application"]

Table = dict[str, Any]


def load_application(path: Path, *, allow_outside: bool = False) -> Application:
    """The application in the TOML file `path`. Its data files are located, not read.

    `allow_outside` lifts the rule that paths stay inside the file's folder.
    Raises ApplicationError with everything that is wrong.
    """
    draft = draft_application(path, allow_outside=allow_outside)
    if draft.application is None:
        raise ApplicationError(draft.problems)
    return draft.application


@dataclass(frozen=True)
class Draft:
    """What could be read. `application` is None when there are problems; `data` are the data sets that are there."""

    problems: tuple[Problem, ...]
    application: Application | None
    data: tuple[DataSet, ...]


def draft_application(path: Path, *, allow_outside: bool = False) -> Draft:
    """Reads as far as possible. Raises ApplicationError when the file is not TOML at all."""
    try:
        content, document, lines = read_toml(path, "an application file (TOML)")
    except InputError as error:
        raise ApplicationError(error.problems) from error
    problems = Problems(str(path), lines=lines)
    stand_ins = {"name": "unnamed", "llms": {}, "data": {}, "nodes": {}}
    header, _ = validate(HeaderModel, document, "", problems, stand_ins)
    _check_filled(document, problems)
    parts = _parts(header, problems)
    check_parts(parts, problems)
    reader = _Reader(path.resolve().parent, problems, allow_outside)
    llms = tuple(reader.llm(name, *part) for name, part in parts.llms.items())
    data = tuple(d for name, part in parts.data.items() if (d := reader.data_set(name, *part)) is not None)
    nodes = tuple(reader.node(name, parts) for name in parts.order)
    if problems:
        return Draft(problems.all(), None, data)
    digest = hashlib.sha256(content).hexdigest()
    file = str(path.resolve())
    application = Application(
        name=header.name, title=header.title, file=file, sha256=digest, llms=llms, data=data, nodes=nodes
    )
    return Draft((), application, data)


def _check_filled(document: Table, problems: Problems) -> None:
    for key, what in (("llms", "LLM"), ("data", "data set"), ("nodes", "node")):
        if document.get(key) == {}:
            problems.add(key, f"there is no {what}", f"a table [{key}.NAME]")


def _parts(header: HeaderModel, problems: Problems) -> Parts:
    llms = {
        name: validate(LLMModel, value, f"llms.{name}", problems, {"checkpoint": "tiny:llama"})
        for name, value in header.llms.items()
    }
    data = {
        name: validate(DataModel, value, f"data.{name}", problems, {"file": "-"})
        for name, value in header.data.items()
    }
    nodes = {name: _node_part(name, value, header, problems) for name, value in header.nodes.items()}
    return Parts(llms, data, nodes)


def _node_part(name: str, value: object, header: HeaderModel, problems: Problems) -> NodePart:
    stand_ins = {"llm": "-", "from": ["-"], "prompt": "-"}
    model, bad = validate(NodeModel, value, f"nodes.{name}", problems, stand_ins)
    takes = () if "from" in bad else tuple(dict.fromkeys(model.takes))
    data = tuple(t for t in takes if t in header.data)
    return NodePart(model, bad, data, tuple(t for t in takes if t in header.nodes and t not in header.data))


@dataclass(frozen=True)
class _Reader:
    """Makes nouns of the parts, and reports what only the folder or vLLM's parameter lists can tell."""

    root: Path
    problems: Problems
    allow_outside: bool

    def llm(self, name: str, model: LLMModel, bad: frozenset[str]) -> LLM:
        place = f"llms.{name}"
        engine = {} if "engine" in bad else check_engine(model.engine, f"{place}.engine", self.problems)
        checkpoint = model.checkpoint
        if "checkpoint" not in bad:
            checkpoint = checkpoint_place(
                self.root,
                checkpoint,
                f"{place}.checkpoint",
                self.problems,
                allow_outside=self.allow_outside,
                any_format=engine.get("load_format") in ("auto", "pt", "dummy"),
            )
        for size in sorted({size for size in model.tp if model.tp.count(size) > 1}):
            self.problems.add(f"{place}.tp", f"{size} stands there twice", "each once")
        return LLM(
            name=name,
            checkpoint=checkpoint,
            lengths=model.lengths or model.checkpoint.rstrip("/").rpartition("/")[2],
            context=model.context,
            tp=tuple(model.tp),
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            engine=engine,
        )

    def data_set(self, name: str, model: DataModel, bad: frozenset[str]) -> DataSet | None:
        if bad:
            return None
        if model.synthetic is not None:
            return DataSet(name=name, synthetic=model.synthetic.model_dump(by_alias=True, exclude_none=True))
        assert model.file is not None
        place = f"data.{name}.file"
        file = data_file(self.root, model.file, place, self.problems, allow_outside=self.allow_outside)
        return None if file is None else DataSet(name=name, file=str(file))

    def node(self, name: str, parts: Parts) -> Node:
        part, place = parts.nodes[name], f"nodes.{name}"
        model, data = part.model, parts.data_of.get(name, ())
        file = parts.data[data[0]][0].file if data else None
        if file is not None and file.lower().endswith(".csv"):
            self._check_csv(model, part.bad, place)
        sampling = (
            {}
            if "sampling" in part.bad
            else check_sampling(model.sampling, f"{place}.sampling", self.problems)
        )
        return Node(
            name=name,
            llm=model.llm,
            data=data[0] if data else "",
            prompt=model.prompt,
            sources=part.sources,
            join=model.join,
            where=Where(model.where.field, model.where.equals) if model.where else None,
            chain=model.chain,
            n=model.n,
            chat=model.chat,
            sampling=sampling,
            output_tokens=model.output_tokens,
        )

    def _check_csv(self, model: NodeModel, bad: frozenset[str], place: str) -> None:
        if model.chain is not None and "chain" not in bad:
            self.problems.add(f"{place}.chain", "a CSV file has no lists", "a JSONL file")
        if model.where is not None and not isinstance(model.where.equals, str):
            right = "the value in quotes: every CSV value is a text"
            self.problems.add(f"{place}.where.equals", "a CSV field is never a number, true or false", right)
