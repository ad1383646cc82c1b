"""What is found before a run on real engines is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.domain.cluster import Cluster
from samullm_tui.domain.errors import ApplicationError
from samullm_tui.supervisor.launch import create_run

HEAD = """
name = "drawn"
title = "drawn answers"

[llms.llama]
checkpoint = "tiny:llama"
lengths = "tiny"

[nodes.answer]
llm = "llama"
from = "questions"
prompt = "{question}"
"""
TEXTS = '[data.questions]\nfile = "questions.jsonl"\n'
LENGTHS = "[data.questions.synthetic]\nrecords = 10\nfields = { question = 5 }\n"


@pytest.fixture
def any_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with the right build of vLLM: these runs are never started."""
    monkeypatch.setattr("samullm_tui.engines.installed.require_vllm", lambda _device: None)


def refusal(application: Path, cluster: Cluster, text: str) -> str:
    application.write_text(text)
    with pytest.raises(ApplicationError) as refused:
        create_run(application, cluster, "vllm")
    return str(refused.value)


@pytest.mark.usefixtures("any_vllm", "runs_home")
def test_lengths_alone_are_nothing_for_real_engines(application: Path, cluster: Cluster) -> None:
    said = refusal(application, cluster, HEAD + "sampling = { max_tokens = 9 }\n" + LENGTHS)
    assert "data.questions" in said
    assert "--engine simulated" in said


@pytest.mark.usefixtures("any_vllm", "runs_home")
def test_a_seed_that_would_kill_a_cpu_engine_is_refused(application: Path, cluster: Cluster) -> None:
    said = refusal(application, cluster, HEAD + "sampling = { max_tokens = 9, seed = 1 }\n" + TEXTS)
    assert "nodes.answer.sampling" in said
    assert "leave the seed out" in said


@pytest.mark.usefixtures("any_vllm", "runs_home")
def test_a_seed_of_which_nothing_is_drawn_is_not(application: Path, cluster: Cluster) -> None:
    application.write_text(HEAD + "sampling = { max_tokens = 9, seed = 1, temperature = 0.0 }\n" + TEXTS)
    assert create_run(application, cluster, "vllm")
