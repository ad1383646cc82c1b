"""`tiny:` checkpoints are named, not built twice, and never half there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from samullm_tui.domain.errors import EngineMissingError, EngineStartError
from samullm_tui.engines import tiny


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("checkpoint", ["meta-llama/Llama-3.1-8B", "/models/llama", "tiny-llama"])
def test_other_checkpoints_are_left_as_they_are(checkpoint: str) -> None:
    assert tiny.resolve_checkpoint(checkpoint) == checkpoint


def test_an_unknown_tiny_checkpoint_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(EngineStartError, match="tiny:llama, tiny:qwen3, tiny:gpt2"):
        tiny.resolve_checkpoint("tiny:../../etc")


def test_one_that_is_built_is_used(cache: Path) -> None:
    folder = tiny.tiny_folder("llama")
    folder.mkdir(parents=True)
    assert tiny.resolve_checkpoint("tiny:llama") == str(folder)
    assert folder.is_relative_to(cache)


def test_without_pytorch_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EngineMissingError, match="needs torch"):
        tiny.resolve_checkpoint("tiny:llama")


def test_a_build_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_family: str, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise MemoryError

    monkeypatch.setattr(tiny, "_write", half)
    with pytest.raises(MemoryError):
        tiny.build("llama")
    assert list(tiny.tiny_folder("llama").parent.iterdir()) == []


def test_of_two_builds_at_once_the_first_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.tiny_folder("llama")

    def write(_family: str, own: Path) -> None:
        (own / "config.json").write_text("second")
        folder.mkdir()
        (folder / "config.json").write_text("first")

    monkeypatch.setattr(tiny, "_write", write)
    assert tiny.build("llama") == folder
    assert (folder / "config.json").read_text() == "first"
    assert list(folder.parent.iterdir()) == [folder]
