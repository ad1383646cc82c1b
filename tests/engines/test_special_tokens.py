"""Which ids of a checkpoint's tokenizer a text does not show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samullm_tui.engines.checkpoint import special_tokens

TOKENIZER = {
    "added_tokens": [
        {"id": 7, "content": "<end>", "special": True, "lstrip": False},
        {"id": 8, "content": "<think>", "special": False},
        {"id": 9, "content": "<tool>"},
    ],
    "model": {"type": "BPE", "vocab": {"a": 0}},
}


def test_the_special_ones_among_the_added_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    assert special_tokens(str(tmp_path)) == {7}


@pytest.mark.parametrize("content", [None, "{", '{"added_tokens": [{"id": "x"}]}', '{"model": {}}'])
def test_none_where_they_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    assert special_tokens(str(tmp_path)) == frozenset()


def test_those_of_a_hugging_face_id_that_is_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert special_tokens("org/model") == frozenset()
    snapshot = tmp_path / "models--org--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    assert special_tokens("org/model") == {7}
