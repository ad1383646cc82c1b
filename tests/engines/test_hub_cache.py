"""Finding what was downloaded from Hugging Face, without any of its libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.engines.hub_cache import local_snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return tmp_path / "hub"


def snapshot(hub: Path, commit: str, *, config: bool = True) -> Path:
    folder = hub / "models--org--name" / "snapshots" / commit
    folder.mkdir(parents=True)
    if config:
        (folder / "config.json").write_text("{}")
    return folder


def test_the_snapshot_of_main_is_taken(hub: Path) -> None:
    wanted = snapshot(hub, "aaa")
    snapshot(hub, "bbb")
    assert local_snapshot("org/name") is None, "nothing says which of the two"
    (hub / "models--org--name" / "refs").mkdir()
    (hub / "models--org--name" / "refs" / "main").write_text("aaa")
    assert local_snapshot("org/name") == wanted


def test_the_only_one_needs_no_name(hub: Path) -> None:
    wanted = snapshot(hub, "ccc")
    assert local_snapshot("org/name") == wanted


def test_a_download_without_a_configuration_is_none(hub: Path) -> None:
    snapshot(hub, "ddd", config=False)
    assert local_snapshot("org/name") is None


@pytest.mark.parametrize("name", ["org/name", "../../etc", "org/../x", "", "name", "/org/name", "a/b/c"])
def test_what_is_not_there_or_no_id_is_none(hub: Path, name: str) -> None:
    assert local_snapshot(name) is None
