"""`profile`: what can be wrong is found before an engine starts; `--hardware` measures with PyTorch."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samullm_tui.cli.main import main
from samullm_tui.engines.hardware import MIB, measure_hardware
from samullm_tui.telemetry.gpu import detect_cluster
from tests.cli.conftest import Verb

no_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
no_gpu = pytest.mark.skipif(detect_cluster() is not None, reason="this machine has a GPU")


def folder_with(path: Path, config: str) -> Path:
    path.mkdir()
    (path / "config.json").write_text(config)
    return path


@no_gpu
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["CHECKPOINT", "--hardware"]),
        (("tiny:bert",), ["tiny:bert", "tiny:llama, tiny:qwen3, tiny:gpt2"]),
        (("no/such-checkpoint",), ["no/such-checkpoint", "nothing is downloaded"]),
        (("/nowhere/at/all",), ["/nowhere/at/all", "no such folder"]),
        (("tiny:llama", "--tp", "2"), ["--tp", "no tp of 2", "2 × CPU slots"]),
        (("tiny:llama", "--tp", "3"), ["--tp", "no tp of 3"]),
        (("tiny:llama", "--context", "4096"), ["--context", "2048 tokens of the checkpoint"]),
        (("tiny:llama", "--beside", "2"), ["--beside", "from 0 to 1"]),
        (("tiny:llama", "--cluster", "a100-80g:8"), ["--cluster", "this machine has no GPU"]),
        (("tiny:llama", "--cluster", "toaster:2"), ["toaster", "a100-80g"]),
        (("tiny:llama", "--hardware"), ["--hardware", "CHECKPOINT"]),
        (("tiny:llama", "--argument", "load_format"), ["load_format", "NAME=VALUE"]),
        (("tiny:llama", "--argument", "block_size=many"), ["--argument.block_size", "'many'"]),
        (("tiny:llama", "--argument", "port=1"), ["--argument.port", "cannot be set here"]),
        (("--hardware", "-o", "/proc/nowhere/x.json"), ["/proc/nowhere", "cannot be written"]),
    ],
)
def test_wrong_input_is_named(
    arguments: tuple[str, ...], words: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert all(word in captured.err for word in words), captured.err
    assert not home.exists(), "nothing was made"


@pytest.mark.parametrize("config", [None, "", "[]", '{"hidden_size": 8}'])
def test_a_folder_that_is_no_checkpoint_is_named(
    config: str | None, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoint"
    if config is None:
        folder.mkdir()
    else:
        folder_with(folder, config)
    assert main(["profile", str(folder)]) == 2
    assert str(folder / "config.json") in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9", "soon", "nan"])
def test_a_time_that_is_none_is_refused(seconds: str) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["profile", "tiny:llama", "--seconds", seconds])
    assert refused.value.code == 2


@no_gpu
def test_a_store_that_cannot_be_written_is_found_before_anything_is_measured(tmp_path: Path) -> None:
    in_the_way = tmp_path / "home"
    in_the_way.write_text("a file")
    done = subprocess.run(
        [sys.executable, "-m", "samullm_tui", "profile", "tiny:llama", "--json"],
        env={**os.environ, "SAMULLM_HOME": str(in_the_way)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "profiles" in done.stderr
    assert "start 1" not in done.stderr


@no_gpu
def test_without_vllm_it_says_how_to_get_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samullm_tui.engines.installed.installed_vllm", lambda: None)
    assert main(["profile", "tiny:llama"]) == 2
    assert "vLLM is not installed" in capsys.readouterr().err


@no_torch
def test_the_rates_of_the_cpu_are_measured_in_a_process_of_its_own() -> None:
    rates = measure_hardware("cpu", 0.5, largest_bytes=MIB)
    assert {rate.what for rate in rates.measured} == {"copy", "read", "fp32", "bf16", "fp16"}
    assert all(0 < rate.median_per_s <= rate.per_s for rate in rates.measured)
    assert rates.bandwidth_bytes_per_s == max(r.per_s for r in rates.measured if r.what in {"copy", "read"})
    assert rates.flops_per_s["fp32"] == max(r.per_s for r in rates.measured if r.what == "fp32")
    assert rates.threads == 1


@no_torch
@no_gpu
def test_hardware_reports_rates_and_their_share_of_what_estimates_count_on(
    verb: Verb, home: Path, tmp_path: Path
) -> None:
    output = tmp_path / "rates.json"
    found = verb("profile", "--hardware", "--seconds", 0.5, "-o", output)
    assert json.loads(output.read_bytes()) == found
    (cpu,) = found["devices"]
    achieved, nominal = cpu["rates"]["bandwidth_bytes_per_s"], cpu["nominal"]["bandwidth_bytes_per_s"]
    assert cpu["bandwidth_share"] == pytest.approx(achieved / nominal)
    assert cpu["flops_share"] == pytest.approx(
        cpu["rates"]["flops_per_s"]["bf16"] / cpu["nominal"]["flops_per_s"]
    )
    assert cpu["rates"]["name"]
