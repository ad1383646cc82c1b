"""Promise: a wrong application file is refused at its place, in words that help, with every mistake at once."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.check import check_application

GOOD = """
name = "good"
[llms.a]
checkpoint = "tiny:llama"
[llms.b]
checkpoint = "tiny:gpt2"
[data.d.synthetic]
records = 3
[data.d.synthetic.fields]
text = 10
kind = { choice = { x = 1, y = 1 } }
parts = { list = { count = 2, tokens = 5 } }
[nodes.first]
llm = "a"
from = "d"
prompt = "{text}"
[nodes.second]
llm = "b"
from = ["d", "first"]
prompt = "{text} {first}"
sampling = { max_tokens = 5 }
"""


def problems_of(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(ApplicationError) as caught:
        load_application(path)
    return caught.value.problems


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "app.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def changed(old: str, new: str) -> str:
    assert old in GOOD, old
    return GOOD.replace(old, new, 1)


def test_a_good_file_becomes_nouns_with_sources_first(tmp_path: Path) -> None:
    text = GOOD + '[nodes.zeroth]\nllm = "a"\nfrom = "last"\nprompt = "{last}"\n'
    text += '[nodes.last]\nllm = "a"\nfrom = "d"\nprompt = "{text}"\n'
    app = load_application(write(tmp_path, text))
    assert [node.name for node in app.nodes] == ["first", "last", "second", "zeroth"]
    assert app.node("second").sources == ("first",)
    assert app.node("zeroth").data == "d"
    assert app.node("second").max_tokens == 5
    assert app.llm("a").lengths == "tiny:llama"
    assert not app.has_texts
    assert app.file == str(tmp_path / "app.toml")
    assert len(app.sha256) == 64


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    text = "\ufeff" + GOOD.replace("\n", "\r\n")
    assert load_application(write(tmp_path, text)).name == "good"


FILES: list[tuple[str, bytes, str, tuple[str, ...]]] = [
    ("not TOML", b'name = "x"\n[llms', "line 2, column 6", ("not TOML",)),
    ("not TOML, a key twice", b"name = 'x'\nname = 'y'\n", "line 2", ("not TOML", "overwrite")),
    ("not UTF-8", b'name = "x"\ntitle = "\xff"\n', "line 2", ("not UTF-8",)),
    ("UTF-16", 'name = "x"'.encode("utf-16"), "line 1", ("not UTF-8",)),
    ("empty", b"", "", ("empty",)),
    ("blank", b" \n\n", "", ("empty",)),
    ("nested without end", b"a = " + b"[" * 100_000, "", ("not TOML", "nested")),
    ("a number without end", b"a = " + b"9" * 5_000, "", ("not TOML", "4300")),
    ("a NUL", b'name = "\x00"', "line 1", ("not TOML",)),
    ("long", b"#" * (4 * 1024 * 1024 + 1), "", ("longer than 4 MiB",)),
]


@pytest.mark.parametrize(("content", "place", "words"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_what_is_no_toml_is_refused(
    tmp_path: Path, content: bytes, place: str, words: tuple[str, ...]
) -> None:
    (problem,) = problems_of(write(tmp_path, content))
    assert problem.file == str(tmp_path / "app.toml")
    assert problem.place.startswith(place)
    assert all(word in f"{problem.wrong}; {problem.right}" for word in words), problem


def test_a_folder_a_missing_file_and_a_device_are_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path)[0].wrong == "is a folder"
    assert problems_of(tmp_path / "none.toml")[0].wrong == "no such file"
    assert problems_of(Path("/dev/zero"))[0].wrong == "is not a regular file"
    assert "cannot be read" in problems_of(Path("a\x00b.toml"))[0].wrong


LLM_A = '[llms.a]\ncheckpoint = "tiny:llama"'
SECOND = "sampling = { max_tokens = 5 }"
TEXT = "text = 10"

# (what, replaced, by, place, words of the message)
MISTAKES: list[tuple[str, str, str, str, tuple[str, ...]]] = [
    ("no name", 'name = "good"', "", "name", ("missing", "name of the application")),
    ("name with a slash", '"good"', '"../x"', "name", ("not a name", "letters")),
    ("unknown top key", 'name = "good"', 'name = "good"\nnode = 1', "node", ("unknown key", "'nodes'")),
    ("title a number", 'name = "good"', 'name = "good"\ntitle = 3', "title", ("3", "text in quotes")),
    ("LLM missing", LLM_A, "", "nodes.first.llm", ("unknown LLM 'a'", "b")),
    ("LLM a number", LLM_A, "[llms]\na = 4", "llms.a", ("4", "table")),
    ("unknown LLM key", LLM_A, LLM_A + "\nctx = 9", "llms.a.ctx", ("unknown key", "'context'")),
    ("context negative", LLM_A, LLM_A + "\ncontext = -1", "llms.a.context", ("-1", "at least 1")),
    ("context true", LLM_A, LLM_A + "\ncontext = true", "llms.a.context", ("True", "whole number")),
    ("context a text", LLM_A, LLM_A + '\ncontext = "4k"', "llms.a.context", ("'4k'", "whole number")),
    ("context huge", LLM_A, LLM_A + "\ncontext = 99999999999999999999", "llms.a.context", ("at most",)),
    ("tp 3", LLM_A, LLM_A + "\ntp = [1, 3]", "llms.a.tp.1", ("3", "1, 2, 4")),
    ("tp twice", LLM_A, LLM_A + "\ntp = [2, 2]", "llms.a.tp", ("2 stands there twice",)),
    ("tp no list", LLM_A, LLM_A + "\ntp = 2", "llms.a.tp", ("list",)),
    ("checkpoint missing", 'checkpoint = "tiny:llama"', "", "llms.a.checkpoint", ("missing", "Hugging Face")),
    ("unknown tiny", "tiny:llama", "tiny:lama", "llms.a.checkpoint", ("tiny:lama", "'tiny:llama'")),
    ("checkpoint URL", "tiny:llama", "https://x.org/y", "llms.a.checkpoint", ("URL",)),
    ("checkpoint no folder", "tiny:llama", "./models/none", "llms.a.checkpoint", ("not a folder",)),
    ("remote code", LLM_A, LLM_A + "\ntrust_remote_code = true", "llms.a.trust_remote_code", ("revision", "40")),
    (
        "remote code, a branch",
        LLM_A,
        LLM_A + '\ntrust_remote_code = true\nrevision = "main"',
        "llms.a.trust_remote_code",
        ("40 hexadecimal",),
    ),
    ("engine typo", LLM_A, LLM_A + "\nengine = { max_num_seq = 3 }", "llms.a.engine.max_num_seq", ("max_num_seqs",)),
    ("engine tp", LLM_A, LLM_A + "\nengine = { tensor_parallel_size = 2 }", "llms.a.engine.tensor_parallel_size", ("tp",)),
    (
        "engine code",
        LLM_A,
        LLM_A + '\nengine = { scheduler_cls = "os.system" }',
        "llms.a.engine.scheduler_cls",
        ("no code",),
    ),
    ("engine path", LLM_A, LLM_A + '\nengine = { load_format = "../x" }', "llms.a.engine.load_format", ("../x",)),
    ("engine zero", LLM_A, LLM_A + "\nengine = { max_num_seqs = 0 }", "llms.a.engine.max_num_seqs", ("at least 1",)),
    ("engine a list", LLM_A, LLM_A + "\nengine = { dtype = [1] }", "llms.a.engine.dtype", ("not a single value",)),
    ("unused LLM", LLM_A, LLM_A + '\n[llms.spare]\ncheckpoint = "x/y"', "llms.spare", ("no node uses",)),
    ("LLM name", LLM_A, LLM_A + '\n[llms."a/b"]\ncheckpoint = "x/y"', "llms.a/b", ("not a name",)),
    ("dotted name", LLM_A, LLM_A + '\n[llms.c.1-8B]\ncheckpoint = "x/y"', "llms.c.1-8B", ("quoted",)),
    ("unused data", TEXT, TEXT + "\n[data.e.synthetic]\nrecords = 1\nfields = { a = 1 }", "data.e", ("no node takes",)),
    ("no records", "records = 3", "records = 0", "data.d.synthetic.records", ("at least 1",)),
    ("records missing", "records = 3", "", "data.d.synthetic.records", ("missing", "how many")),
    ("negative seed", "records = 3", "records = 3\nseed = -1", "data.d.synthetic.seed", ("at least 0",)),
    ("data key", "records = 3", "records = 3\nfield = 1", "data.d.synthetic.field", ("'fields'",)),
    ("field typo", TEXT, "text = { lognorm = { median = 2, p90 = 3 } }", "data.d.synthetic.fields.text.lognorm", ("'lognormal'",)),
    ("field negative", TEXT, "text = -3", "data.d.synthetic.fields.text.uniform.0", ("at least 0",)),
    ("field two kinds", TEXT, "text = { uniform = [1, 2], choice = { a = 1 } }", "data.d.synthetic.fields.text", ("together",)),
    ("field no kind", TEXT, "text = {}", "data.d.synthetic.fields.text", ("says nothing",)),
    ("uniform order", TEXT, "text = { uniform = [5, 2] }", "data.d.synthetic.fields.text", ("smaller number first",)),
    ("p90 low", TEXT, "text = { lognormal = { median = 9, p90 = 3 } }", "data.d.synthetic.fields.text.lognormal", ("p90",)),
    ("lognormal nan", TEXT, "text = { lognormal = { median = nan, p90 = 3 } }", "data.d.synthetic.fields.text.lognormal.median", ("nan",)),
    ("choice weight", "x = 1", "x = 0", "data.d.synthetic.fields.kind.choice.x", ("more than 0",)),
    ("node LLM typo", 'llm = "b"', 'llm = "B"', "nodes.second.llm", ("unknown LLM 'B'", "'b'")),
    ("node without LLM", 'llm = "b"', "", "nodes.second.llm", ("missing", "[llms]")),
    ("from typo", '["d", "first"]', '["d", "fisrt"]', "nodes.second.from", ("'fisrt'", "'first'")),
    ("from empty", '["d", "first"]', "[]", "nodes.second.from", ("at least 1",)),
    ("from twice", '["d", "first"]', '["d", "first", "d"]', "nodes.second.from", ("twice",)),
    ("from itself", '["d", "first"]', '["d", "second"]', "nodes.second.from", ("cycle", "second → second")),
    ("prompt empty", '"{text}"', '""', "nodes.first.prompt", ("''",)),
    ("placeholder typo", '"{text}"', '"{txet}"', "nodes.first.prompt", ("{txet}", "'text'")),
    ("placeholder attribute", '"{text}"', '"{text.x}"', "nodes.first.prompt", ("{text.x}", "no dots")),
    ("placeholder conversion", '"{text}"', '"{text!r}"', "nodes.first.prompt", ("{text!r}", "conversions")),
    ("placeholder index", '"{text}"', '"{text[0]}"', "nodes.first.prompt", ("indexes",)),
    ("single brace", '"{text}"', '"{text} {"', "nodes.first.prompt", ("'{'", "twice")),
    ("other node", '"{text}"', '"{second}"', "nodes.first.prompt", ("not in from",)),
    ("list in prompt", '"{text}"', '"{parts}"', "nodes.first.prompt", ("is a list", "chain")),
    ("item without chain", '"{text}"', '"{item}"', "nodes.first.prompt", ("{item}",)),
    ("chain field unknown", SECOND, 'chain = "part"', "nodes.second.chain", ("'part'", "'parts'")),
    ("chain field no list", SECOND, 'chain = "text"', "nodes.second.chain", ("not a list",)),
    ("chain and n", SECOND, 'chain = "parts"\nn = 2', "nodes.second.n", ("chain cannot be repeated",)),
    ("n zero", SECOND, "n = 0", "nodes.second.n", ("at least 1",)),
    ("n a float", SECOND, "n = 2.0", "nodes.second.n", ("whole number",)),
    ("where unknown", SECOND, 'where = { field = "knd", equals = "x" }', "nodes.second.where.field", ("'kind'",)),
    ("where value", SECOND, 'where = { field = "kind", equals = "z" }', "nodes.second.where.equals", ("'z'", "x, y")),
    ("where on tokens", SECOND, 'where = { field = "text", equals = 10 }', "nodes.second.where.field", ("label",)),
    ("where without equals", SECOND, 'where = { field = "kind" }', "nodes.second.where.equals", ("missing",)),
    ("join", SECOND, 'join = "some"', "nodes.second.join", ("'some'", "'all'", "'any'")),
    ("any with data", SECOND, 'join = "any"', "nodes.second.from", ("nodes only",)),
    ("any and name", SECOND, 'join = "any"', "nodes.second.prompt", ("{first}", "{output}")),
    ("chat a text", SECOND, 'chat = "yes"', "nodes.second.chat", ("true or false",)),
    ("known tokens", SECOND, 'output_tokens = "kind"', "nodes.second.output_tokens", ("number of tokens",)),
    ("node key", SECOND, 'smapling = { n = 1 }', "nodes.second.smapling", ("'sampling'",)),
    ("node name", SECOND, SECOND + '\n[nodes."x.y"]\nllm = "a"\nfrom = "d"\nprompt = "p"', "nodes.x.y", ("no dots",)),
    ("node called item", SECOND, SECOND + '\n[nodes.item]\nllm = "a"\nfrom = "d"\nprompt = "p"', "nodes.item", ("something else",)),
    ("node called as data", SECOND, SECOND + '\n[nodes.d]\nllm = "a"\nfrom = "first"\nprompt = "p"', "nodes.d", ("data set is called",)),
    ("sampling n", "max_tokens = 5", "n = 5", "nodes.second.sampling.n", ("own key n",)),
    ("sampling stream", "max_tokens = 5", "stream = true", "nodes.second.sampling.stream", ("stored whole",)),
    ("sampling typo", "max_tokens = 5", "max_token = 5", "nodes.second.sampling.max_token", ("'max_tokens'",)),
    ("sampling zero", "max_tokens = 5", "max_tokens = 0", "nodes.second.sampling.max_tokens", ("at least 1",)),
    ("sampling inf", "max_tokens = 5", "temperature = inf", "nodes.second.sampling.temperature", ("inf",)),
    ("sampling negative", "max_tokens = 5", "temperature = -1.0", "nodes.second.sampling.temperature", ("at least 0",)),
    ("sampling order", "max_tokens = 5", "max_tokens = 5, min_tokens = 6", "nodes.second.sampling", ("min_tokens 6",)),
    ("bias", "max_tokens = 5", "logit_bias = { x = 1.0 }", "nodes.second.sampling.logit_bias", ("token id",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "place", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_each_mistake_is_named_at_its_place(
    tmp_path: Path, old: str, new: str, place: str, words: tuple[str, ...]
) -> None:
    problems = problems_of(write(tmp_path, changed(old, new)))
    at = [p for p in problems if p.place == place or p.place.startswith(f"{place} (line ")]
    assert at, [str(p) for p in problems]
    assert any(all(word in f"{p.wrong}; {p.right}" for word in words) for p in at), [str(p) for p in at]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD
    for old, new in (
        ("tiny:llama", "tiny:lama"),
        ('llm = "b"', 'llm = "c"'),
        ("{first}", "{frist}"),
        ("= 3", "= -3"),
    ):
        text = text.replace(old, new, 1)
    text = text.replace("max_tokens = 5", "max_tokens = 0, n = 2")
    places = {p.place.split(" ")[0] for p in problems_of(write(tmp_path, text))}
    assert {
        "llms.a.checkpoint",
        "nodes.second.llm",
        "nodes.second.sampling.max_tokens",
        "nodes.second.sampling.n",
        "data.d.synthetic.records",
    } <= places


def test_places_carry_the_line_of_the_file(tmp_path: Path) -> None:
    text = changed('llm = "b"', 'llm = "c"')
    (problem,) = problems_of(write(tmp_path, text))
    line = text.splitlines().index('llm = "c"') + 1
    assert problem.place == f"nodes.second.llm (line {line})"


def test_lines_are_not_misled_by_prompts_that_look_like_toml(tmp_path: Path) -> None:
    prompt = 'prompt = """\n[nodes.second]\nllm = "x"\n{text}\n"""'
    text = GOOD.replace('prompt = "{text}"', prompt, 1).replace('llm = "b"', 'llm = "c"')
    (problem,) = problems_of(write(tmp_path, text))
    line = text.splitlines().index('llm = "c"') + 1
    assert problem.place == f"nodes.second.llm (line {line})"


def test_a_cycle_is_named_in_order_and_two_cycles_are_both_named(tmp_path: Path) -> None:
    names = {"p": "r", "q": "p", "r": "q", "u": "v", "v": "u"}
    nodes = "".join(
        f'[nodes.{n}]\nllm = "a"\nfrom = ["d", "{s}"]\nprompt = "{{{s}}}"\n' for n, s in names.items()
    )
    cycles = [p.wrong for p in problems_of(write(tmp_path, GOOD + nodes)) if "cycle" in p.wrong]
    assert len(cycles) == 2
    steps = (
        next(c for c in cycles if "p" in c.removeprefix("a cycle: ")).removeprefix("a cycle: ").split(" → ")
    )
    assert steps[0] == steps[-1]
    assert len(steps) == 4
    assert all(names[consumer] == source for source, consumer in pairwise(steps))


def test_sources_from_two_data_sets_cannot_be_joined(tmp_path: Path) -> None:
    text = GOOD + "[data.e.synthetic]\nrecords = 2\nfields = { text = 1 }\n"
    text += '[nodes.other]\nllm = "a"\nfrom = "e"\nprompt = "{text}"\n'
    text += '[nodes.both]\nllm = "a"\nfrom = ["first", "other"]\nprompt = "{first}{other}"\n'
    (problem,) = problems_of(write(tmp_path, text))
    assert problem.place.startswith("nodes.both.from")
    assert "'d' and 'e'" in problem.wrong


def test_an_empty_application_says_what_is_needed(tmp_path: Path) -> None:
    problems = problems_of(write(tmp_path, 'name = "x"\nllms = {}\ndata = {}\nnodes = {}\n'))
    assert [p.place.split(" ")[0] for p in problems] == ["llms", "data", "nodes"]


def test_messages_never_carry_the_text_of_a_prompt(tmp_path: Path) -> None:
    secret = "the canary sings at midnight " * 5
    text = GOOD.replace('"{text}"', f'"{secret} {{text.x}} {{"', 1)
    assert "canary" not in str(problems_of(write(tmp_path, text)))


def test_check_reads_the_data_though_the_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "1", "text": "a"}\n{broken\n')
    text = 'name = "x"\n[llms.a]\ncheckpoint = "tiny:lama"\n[data.d]\nfile = "d.jsonl"\n'
    text += '[nodes.n]\nllm = "a"\nfrom = "d"\nprompt = "{text}"\n'
    with pytest.raises(ApplicationError) as caught:
        check_application(write(tmp_path, text))
    places = [p.place for p in caught.value.problems]
    assert places == ["llms.a.checkpoint (line 3)", "line 2"]


def test_opening_an_application_loads_no_numpy(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    code = (
        "import sys; from pathlib import Path\n"
        "from samullm_tui.workload.application_file import load_application\n"
        f"load_application(Path({str(path)!r}))\n"
        "assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_listing_applications_loads_no_pydantic() -> None:
    code = (
        "import sys\nfrom samullm_tui.workload.library import list_applications\n"
        "assert list_applications()\nassert 'pydantic' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
