"""Promise: every shipped application, and every example of the documentation, works as it is."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from samullm_tui.locations import APPS
from samullm_tui.workload.check import check_application
from samullm_tui.workload.cluster_file import load_cluster
from samullm_tui.workload.library import list_applications
from samullm_tui.workload.requests import Workload

PAGE = Path(__file__).parents[2] / "docs" / "applications.md"
BLOCKS = re.findall(
    r"^```(\w+)(?: (\S+))?\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
EXAMPLES = [text for kind, name, text in BLOCKS if kind == "toml" and name != "cluster"]
CLUSTERS = [text for kind, name, text in BLOCKS if kind == "toml" and name == "cluster"]


def shipped(name: str) -> Workload:
    return check_application(APPS / f"{name}.toml")


def counts(work: Workload) -> dict[str, int]:
    return {node.name: len(work.table.indices_of_node(node.name)) for node in work.application.nodes}


def test_the_library_lists_what_ships() -> None:
    names = [path.stem for path in list_applications()]
    assert names == ["chain-summary", "ensembling", "mixed", "routing", "selftest", "support-triage"]


def test_a_folder_that_is_not_there_has_no_applications(tmp_path: Path) -> None:
    assert list_applications(tmp_path / "none") == []
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.toml").mkdir()
    assert list_applications(tmp_path) == []


@pytest.mark.parametrize("path", list_applications(), ids=lambda p: p.stem)
def test_every_shipped_application_is_without_problems(path: Path) -> None:
    work = check_application(path)
    assert work.application.name == path.stem
    assert work.application.title
    assert min(counts(work).values()) > 0


def test_ensembling_asks_nine_llms_the_same() -> None:
    work = shipped("ensembling")
    assert len(work.application.llms) == 9
    assert set(counts(work).values()) == {5_000}
    assert np.all(work.table.max_tokens == 512)
    tokens = work.table.prompt_tokens.reshape(9, 5_000)
    assert np.all(tokens == tokens[0])


def test_routing_sends_each_record_to_one_llm() -> None:
    work = shipped("routing")
    assert len(work.table) == 10_000 == len(set(work.table.records))
    shares = sorted(counts(work).values())
    assert len(shares) == 5
    assert shares[-1] > 3 * shares[0]
    assert np.all(work.table.max_tokens == 4096)


def test_chain_summary_folds_a_hundred_books_and_judges_each_four_times() -> None:
    work = shipped("chain-summary")
    assert counts(work)["judge"] == 400
    assert work.table.group.max() == 99
    assert 1_200 < counts(work)["summarise"] < 1_600
    assert np.all(work.table.max_tokens == 900)
    longest = work.table.prompt_tokens.max() + 900 + 900
    assert longest < 4096, "the fold always fits the context"


def test_mixed_is_both_and_shares_vicuna() -> None:
    both = {**counts(shipped("chain-summary")), **counts(shipped("ensembling"))}
    work = shipped("mixed")
    assert counts(work) == both
    assert [node.name for node in work.application.nodes if node.llm == "vicuna-13b"] == [
        "vicuna",
        "summarise",
    ]


def test_the_selftest_is_small_and_has_every_shape() -> None:
    work = shipped("selftest")
    assert 180 <= len(work.table) <= 220
    assert work.application.has_texts
    assert {llm.checkpoint for llm in work.application.llms} == {"tiny:llama", "tiny:qwen3", "tiny:gpt2"}
    assert work.table.group.max() == 11
    assert len(work.application.node("judge").sources) == 2
    assert work.table.max_tokens.max() <= 48
    assert work.table.prompt_tokens.max() + 48 < 2048


def test_support_triage_answers_and_reviews_every_ticket() -> None:
    work = shipped("support-triage")
    assert work.application.has_texts
    count = counts(work)
    assert count["urgency"] == count["review"] == 60
    assert sum(count[f"answer-{queue}"] for queue in ("technical", "billing", "delivery")) == 60
    texts = [work.record(i).fields["text"] for i in range(60)]
    assert len(set(texts)) == 60


UNMEASURED = {"stablelm-tuned-alpha-7b"}


@pytest.mark.data
def test_checkpoints_and_lengths_have_the_names_of_the_measurements(measured: Path) -> None:
    with (measured / "models.csv").open() as file:
        checkpoints = {row["checkpoint"] for row in csv.DictReader(file)}
    with gzip.open(measured / "samullm-authors" / "output_length_pmf_no_robots.csv.gz", "rt") as file:
        lengths = {row["model"] for row in csv.DictReader(file)}
    for name in ("ensembling", "routing", "chain-summary", "mixed"):
        for llm in shipped(name).application.llms:
            assert llm.checkpoint in checkpoints
            assert llm.lengths in lengths | UNMEASURED
    assert {llm.checkpoint for llm in shipped("support-triage").application.llms} <= checkpoints


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    for kind, name, text in BLOCKS:
        if kind in ("jsonl", "csv"):
            (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_page_has_the_examples_that_it_should() -> None:
    assert len(EXAMPLES) >= 6
    assert len(CLUSTERS) == 2
    assert {kind for kind, _, _ in BLOCKS} == {"toml", "jsonl", "csv"}


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split('"')[1])
def test_every_example_of_the_documentation_works(data_folder: Path, text: str) -> None:
    path = data_folder / "app.toml"
    path.write_text(text, encoding="utf-8")
    assert len(check_application(path).table) > 0


@pytest.mark.parametrize("text", CLUSTERS, ids=lambda text: text.split('"')[1])
def test_every_cluster_of_the_documentation_works(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    assert load_cluster(str(path)).gpus in (4, 8)


def test_the_documentation_names_every_parameter() -> None:
    from samullm_tui.domain.cluster import PRESETS
    from samullm_tui.workload.parameters import EngineModel, SamplingModel
    from samullm_tui.workload.schema import LLMModel, NodeModel, SyntheticModel

    page = PAGE.read_text(encoding="utf-8")
    for model in (EngineModel, SamplingModel, LLMModel, NodeModel, SyntheticModel):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in page, name
    assert all(f"`{name}`" in page for name in PRESETS)
