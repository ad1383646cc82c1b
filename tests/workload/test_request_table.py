"""Promise: every request is there once, after those whose outputs it takes, with its prompt and what it waits for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samullm_tui.domain.errors import ApplicationError, Problem
from samullm_tui.workload import layout
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import NO_CAP, Workload, build_requests
from samullm_tui.workload.tokens import estimate

HEAD = 'name = "x"\n[llms.a]\ncheckpoint = "org/a"\ncontext = 4096\n[llms.b]\ncheckpoint = "tiny:gpt2"\n[data.d]\nfile = "d.jsonl"\n'
ROWS = [
    {"id": "r1", "text": "one", "route": "x", "parts": ["p1", "p2", "p3"]},
    {"id": "r2", "text": "two", "route": "y", "parts": []},
    {"id": "r3", "text": "three {first}", "route": "x", "parts": ["q1"], "known": 7},
]


def build(
    folder: Path, nodes: str, rows: list[dict[str, object]] | None = None, head: str = HEAD
) -> Workload:
    (folder / "d.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (ROWS if rows is None else rows))
    )
    (folder / "app.toml").write_text(head + nodes)
    return build_requests(load_application(folder / "app.toml"))


def problems_of(folder: Path, nodes: str, rows: list[dict[str, object]] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ApplicationError) as caught:
        build(folder, nodes, rows)
    return caught.value.problems


def node(name: str, takes: str, prompt: str, more: str = "", llm: str = "a") -> str:
    return f'[nodes.{name}]\nllm = "{llm}"\nfrom = {takes}\nprompt = {json.dumps(prompt)}\n{more}\n'


def spare(llm: str) -> str:
    """Uses an LLM that a test does not care for."""
    return node("spare", '"d"', "s", llm=llm)


def check_table(work: Workload) -> None:
    """What holds for every table."""
    table = work.table
    n = len(table)
    assert len(table.records) == n == len(work.record_index) == len(work.step)
    assert table.parent_start[0] == 0
    assert table.parent_start[-1] == len(table.parents) == len(table.fed)
    assert np.all(np.diff(table.parent_start) >= 0)
    owners = np.repeat(np.arange(n), np.diff(table.parent_start))
    assert np.all(table.parents < owners), "parents come first"
    assert np.all(np.diff(table.node) >= 0)
    assert max(Counter(zip(table.node.tolist(), table.ids, strict=True)).values()) == 1
    assert set(np.unique(table.fed)) <= {0, 1}
    groups = table.group[table.group >= 0]
    assert sorted(set(groups.tolist())) == list(range(len(set(groups.tolist()))))
    assert np.all((table.group >= 0) == (work.step > 0))
    for name in ("llm", "node", "prompt_tokens", "max_tokens", "known_tokens", "group", "parents", "fed"):
        assert getattr(table, name).dtype == np.int64
    same_record = np.asarray(table.records)[owners] == np.asarray(table.records)[table.parents]
    assert np.all(same_record)
    for index in range(n):
        assert table.records[index] == work.record(index).id


def rendered(work: Workload) -> dict[str, str]:
    """node/id → prompt, where every output is `<node/id>`."""
    names = [f"{work.request_node(i).name}:{request}" for i, request in enumerate(work.table.ids)]
    return {names[i]: work.prompt(i, lambda k: f"<{names[k]}>") for i in range(len(names))}


def test_fan_out_and_fan_in(tmp_path: Path) -> None:
    nodes = node("first", '"d"', "{text}") + node("second", '"d"', "2 {text}", llm="b")
    nodes += node("judge", '["first", "second"]', "{text}|{first}|{second}")
    work = build(tmp_path, nodes)
    check_table(work)
    prompts = rendered(work)
    assert prompts["judge:r1"] == "one|<first:r1>|<second:r1>"
    assert prompts["judge:r3"] == "three {first}|<first:r3>|<second:r3>", "values are not looked into"
    assert work.table.fed.tolist() == [1] * 6
    assert work.table.max_tokens.tolist() == [NO_CAP] * 9


def test_a_source_that_is_not_in_the_prompt_is_waited_for_but_not_fed(tmp_path: Path) -> None:
    work = build(tmp_path, node("first", '"d"', "{text}") + node("then", '["d", "first"]', "{text}", llm="b"))
    assert work.table.parents.tolist() == [0, 1, 2]
    assert work.table.fed.tolist() == [0, 0, 0]

    def never(_: int) -> str:
        raise AssertionError

    assert work.prompt(3, never) == "one"


def test_a_chain_folds_and_its_last_step_is_its_output(tmp_path: Path) -> None:
    nodes = node("fold", '"d"', "{previous}+{item}", 'chain = "parts"') + node(
        "end", '"fold"', "{fold}", llm="b"
    )
    work = build(tmp_path, nodes)
    check_table(work)
    assert rendered(work) == {
        "fold:r1/1": "+p1",
        "fold:r1/2": "<fold:r1/1>+p2",
        "fold:r1/3": "<fold:r1/2>+p3",
        "fold:r3/1": "+q1",
        "end:r1": "<fold:r1/3>",
        "end:r3": "<fold:r3/1>",
    }
    assert work.table.group.tolist() == [0, 0, 0, 1, -1, -1]


def test_a_chain_shows_its_sources_in_every_step(tmp_path: Path) -> None:
    nodes = node("plan", '"d"', "{text}", llm="b") + node("wait", '"d"', "{text}", llm="b")
    nodes += node("fold", '["plan", "wait"]', "{plan}{previous}{item}", 'chain = "parts"')
    work = build(tmp_path, nodes)
    check_table(work)
    first = work.table.ids.index("r1/1")
    names = [work.table.node_names[k] for k in work.table.node]
    assert [[names[p] for p in work.table.parents_of(first + k)] for k in range(2)] == [
        ["plan", "wait"],
        ["fold", "plan"],
    ]
    assert rendered(work)["fold:r1/2"] == "<plan:r1><fold:r1/1>p2"


def test_repetitions_have_ids_and_seeds_of_their_own_and_come_together(tmp_path: Path) -> None:
    nodes = node("many", '"d"', "{text}", "n = 3\nsampling = { seed = 40 }") + node(
        "one", '"many"', "{many}", llm="b"
    )
    work = build(tmp_path, nodes)
    check_table(work)
    assert work.table.ids[:3] == ["r1#1", "r1#2", "r1#3"]
    assert [work.sampling(i)["seed"] for i in range(3)] == [40, 41, 42]
    assert work.sampling(0)["max_tokens"] == NO_CAP, "an engine must not fall back to a default of its own"
    assert rendered(work)["one:r1"] == "<many:r1#1>\n\n<many:r1#2>\n\n<many:r1#3>"


def test_repetitions_share_their_prompt_and_other_requests_what_their_template_begins_with(
    tmp_path: Path,
) -> None:
    head = "Read the following text with care. "
    nodes = node("many", '"d"', "{text}", "n = 2") + node("head", '"d"', head + "{text}", llm="b")
    table = build(tmp_path, nodes).table
    assert table.prefix is not None
    assert table.prefix_tokens is not None
    many, alike = table.indices_of_node("many"), table.indices_of_node("head")
    assert (np.diff(table.prefix[many]) == np.tile([0, 1], len(many) // 2)[: len(many) - 1]).all()
    assert (table.prefix_tokens[many] > table.prompt_tokens[many]).all()
    assert len(set(table.prefix[alike].tolist())) == 1
    assert set(table.prefix[alike].tolist()).isdisjoint(table.prefix[many].tolist())
    assert 0 < table.prefix_tokens[alike[0]] < table.prompt_tokens[alike].min()


def test_join_any_makes_a_request_of_each_output(tmp_path: Path) -> None:
    nodes = node("x", '"d"', "{text}", 'where = { field = "route", equals = "x" }')
    nodes += node("all", '"d"', "{text}", llm="b") + node(
        "any", '["x", "all"]', "{output}", 'join = "any"\nn = 2'
    )
    work = build(tmp_path, nodes + node("both", '"any"', "{any}"))
    check_table(work)
    prompts = rendered(work)
    assert [name for name in prompts if name.startswith("any")] == [
        f"any:{r}@{s}#{k}" for r, s in (("r1", "x"), ("r1", "all"), ("r2", "all"), ("r3", "x"), ("r3", "all")) for k in (1, 2)
    ]  # fmt: skip
    assert prompts["any:r3@x#2"] == "<x:r3>"
    assert prompts["both:r2"] == "<any:r2@all#1>\n\n<any:r2@all#2>"


def test_routing_lets_a_consumer_exist_only_where_all_sources_do(tmp_path: Path) -> None:
    nodes = node("x", '"d"', "{text}", 'where = { field = "route", equals = "x" }') + node(
        "all", '"d"', "{text}", llm="b"
    )
    work = build(tmp_path, nodes + node("both", '["x", "all"]', "{x}{all}"))
    assert [
        i for i, k in zip(work.table.ids, work.table.node, strict=True) if work.table.node_names[k] == "both"
    ] == ["r1", "r3"]


@pytest.mark.parametrize(
    ("value", "equals", "same"),
    [
        (1, "1", True),
        (1, "true", False),
        (True, "1", False),
        (1.0, "1", True),
        ("1", "1", False),
        (True, "true", True),
    ],
)
def test_routing_compares_values_of_one_kind(tmp_path: Path, value: object, equals: str, same: bool) -> None:
    rows: list[dict[str, object]] = [{"id": "r", "v": value}, {"id": "other", "v": "never"}]
    nodes = node("n", '"d"', "p", f'where = {{ field = "v", equals = {equals} }}') + spare("b")
    if same:
        assert build(tmp_path, nodes, rows).table.ids[0] == "r"
    else:
        assert "no record has 'v' equal to" in problems_of(tmp_path, nodes, rows)[0].wrong


def test_values_stand_in_prompts_as_the_data_have_them(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": 5, "a": 1.5, "b": True, "c": -3, "d": "x"}]
    work = build(tmp_path, node("n", '"d"', "{id} {a} {b} {c} {d} {{d}}") + spare("b"), rows)
    assert work.prompt(0, str) == "5 1.5 true -3 x {d}"


def test_known_output_tokens_come_from_the_data(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": "a", "t": 7}, {"id": "b", "t": 0}, {"id": "c", "t": "12"}]
    work = build(tmp_path, node("n", '"d"', "p", 'output_tokens = "t"') + spare("b"), rows)
    assert work.table.known_tokens[:3].tolist() == [7, 1, 12]
    assert work.table.known_tokens[3:].tolist() == [-1, -1, -1]
    bad: list[dict[str, object]] = [
        {"id": str(k), "t": v} for k, v in enumerate([-1, 1.5, True, "x", None, 2**40])
    ]
    found = problems_of(tmp_path, node("n", '"d"', "p", 'output_tokens = "t"') + spare("b"), bad)
    assert len(found) == 6
    assert all("number of output tokens" in p.right or "no field 't'" in p.wrong for p in found)


def test_prompt_tokens_are_estimated_without_upstream_outputs(tmp_path: Path) -> None:
    nodes = node("n", '"d"', "äb{text}") + node("m", '"n"', "{n}{text}!", llm="b")
    work = build(tmp_path, nodes, [{"id": "r", "text": "12345"}])
    assert work.table.prompt_tokens.tolist() == [2, 6]  # 8 bytes / 4; every byte of a tiny checkpoint
    assert estimate("org/a", "") == 0
    assert estimate("org/a", "abcde") == 2
    assert estimate("tiny:llama", "äb") == 3


def test_a_counter_of_the_caller_is_used(tmp_path: Path) -> None:
    build(tmp_path, node("n", '"d"', "{text}") + spare("b"))
    app = load_application(tmp_path / "app.toml")
    work = build_requests(app, count_tokens=lambda llm, text: 100 * (llm == "a") + len(text))
    assert work.table.prompt_tokens.tolist() == [103, 103, 113, 1, 1, 1]


SYNTHETIC = """
name = "s"
[llms.a]
checkpoint = "org/a"
[data.d.synthetic]
records = 4
[data.d.synthetic.fields]
text = 10
label = { choice = { abcdefgh = 1 } }
parts = { list = { count = 3, tokens = 20 } }
"""


def test_lengths_only_data_count_literals_fields_and_labels(tmp_path: Path) -> None:
    nodes = node("n", '"d"', "12345{text}{label}") + node(
        "f", '["d", "n"]', "{previous}{item}{n}{text}", 'chain = "parts"'
    )
    work = build(tmp_path, nodes, head=SYNTHETIC)
    check_table(work)
    assert work.table.prompt_tokens[:4].tolist() == [10 + 4] * 4  # 13 characters
    assert work.table.prompt_tokens[4:].tolist() == [30] * 12
    assert work.prompt(0, str) == ""
    assert work.table.ids[4] == "0001/1"


def test_a_prompt_as_long_as_the_context_is_refused_at_its_line(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"r{k}", "text": "x" * size} for k, size in enumerate([4 * 4095, 4 * 4095 + 1])
    ]
    (problem,) = problems_of(tmp_path, node("n", '"d"', "{text}") + spare("b"), rows)
    assert problem.file == str(tmp_path / "d.jsonl")
    assert problem.place == "line 2, record 'r1'"
    assert "4,096 tokens" in problem.wrong
    assert "context of 'a'" in problem.right


def test_many_long_prompts_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": str(k), "text": "x" * 3000} for k in range(50)]
    found = problems_of(tmp_path, node("n", '"d"', "{text}", llm="b") + spare("a"), rows)
    assert len(found) == 21
    assert found[-1].wrong == "and 30 more"


def test_contexts_of_the_caller_are_checked(tmp_path: Path) -> None:
    build(tmp_path, node("n", '"d"', "{text}"), head=SYNTHETIC)
    with pytest.raises(ApplicationError, match=r"data\.d, record '0001'"):
        build_requests(load_application(tmp_path / "app.toml"), contexts={"a": 10})


def test_a_missing_field_is_named_with_record_and_line(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "r1", "text": "a"},
        {"id": "r2", "txet": "b"},
        {"id": "r3", "text": None},
    ]
    found = problems_of(tmp_path, node("n", '"d"', "{text}") + spare("b"), rows)
    assert [p.place for p in found] == ["line 2, record 'r2'", "line 3, record 'r3'"]
    assert "no field 'text', which node 'n' needs" in found[0].wrong
    assert "'txet'" in found[0].right


def test_a_field_that_no_record_has_is_one_mistake(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, node("n", '"d"', "{txt}") + spare("b"))
    assert problem.file == str(tmp_path / "app.toml")
    assert problem.place == "nodes.n"
    assert "did you mean 'text'?" in problem.right


def test_fields_of_the_wrong_kind_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "r1", "text": ["a"], "parts": "p"},
        {"id": "r2", "text": {}, "parts": [1, {}]},
    ]
    found = problems_of(
        tmp_path, node("n", '"d"', "{text}") + node("c", '"d"', "{item}", 'chain = "parts"', "b"), rows
    )
    words = [f"{p.place}: {p.wrong}" for p in found]
    assert words == [
        "line 1, record 'r1': the field 'text' is neither text nor number",
        "line 2, record 'r2': the field 'text' is neither text nor number",
        "line 1, record 'r1': the field 'parts' is not a list",
        "line 2, record 'r2': the list 'parts' has elements that are not texts",
    ]


def test_an_empty_prompt_is_refused_unless_outputs_fill_it(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": "r1", "text": ""}]
    (problem,) = problems_of(tmp_path, node("n", '"d"', "{text}") + spare("b"), rows)
    assert "is empty" in problem.wrong
    assert (
        len(build(tmp_path, node("n", '"d"', "p{text}") + node("m", '"n"', "{n}", llm="b"), rows).table) == 2
    )


def test_a_route_that_nobody_takes_is_a_mistake(tmp_path: Path) -> None:
    (problem,) = problems_of(
        tmp_path, node("n", '"d"', "p", 'where = { field = "route", equals = "z" }') + spare("b")
    )
    assert problem.place == "nodes.n.where"
    assert problem.right == "known: x, y"
    (problem,) = problems_of(
        tmp_path, node("n", '"d"', "p", 'where = { field = "rout", equals = "x" }') + spare("b")
    )
    assert "'route'" in problem.right


def test_too_many_requests_are_refused_before_the_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "MAX_REQUESTS", 20_000)
    rows: list[dict[str, object]] = [{"id": str(k)} for k in range(21)]
    (problem,) = problems_of(tmp_path, node("n", '"d"', "p", "n = 1000") + spare("b"), rows)
    assert "more than 20,000 requests" in problem.wrong


NODE_KINDS = st.sampled_from(["plain", "chain", "repeat", "any", "where"])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_graph_gives_a_sound_table(tmp_path: Path, data: st.DataObject) -> None:
    nodes: list[str] = []
    names: list[str] = []
    for k in range(data.draw(st.integers(1, 6))):
        kind = data.draw(NODE_KINDS)
        sources = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        more = {
            "chain": 'chain = "parts"',
            "repeat": "n = 2",
            "where": 'where = { field = "route", equals = "x" }',
        }.get(kind, "")
        takes = [*([] if sources else ["d"]), *sources]
        shown = data.draw(st.lists(st.sampled_from(sources), unique=True)) if sources else []
        prompt = "p {text}" + "".join(f"{{{s}}}" for s in shown)
        if kind == "any" and sources:
            more, prompt = 'join = "any"', data.draw(st.sampled_from(["{output}", "p"]))
        nodes.append(node(f"n{k}", json.dumps(takes), prompt, more, data.draw(st.sampled_from("ab"))))
        names.append(f"n{k}")
    nodes = data.draw(st.permutations(nodes))
    ids = data.draw(
        st.lists(st.text(alphabet="a#/@1", min_size=1, max_size=4), unique=True, min_size=1, max_size=5)
    )
    rows: list[dict[str, object]] = [
        {"id": i, "text": "t", "route": "x", "parts": ["u"] * (k % 3)} for k, i in enumerate(ids)
    ]
    work = build(tmp_path, "".join(nodes) + node("za", '"d"', "p") + node("zb", '"d"', "p", llm="b"), rows)
    check_table(work)
    prompts = rendered(work)
    for index in range(len(work.table)):
        fed = work.table.fed[work.table.parent_start[index] : work.table.parent_start[index + 1]]
        name = f"{work.request_node(index).name}:{work.table.ids[index]}"
        for parent, shown_parent in zip(work.table.parents_of(index), fed, strict=True):
            text = f"<{work.request_node(int(parent)).name}:{work.table.ids[parent]}>"
            assert (text in prompts[name]) == bool(shown_parent)
