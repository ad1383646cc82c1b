"""Profiles measured on this machine: kept, found again before the catalog's, and never used silently where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from samullm_tui.catalog.shapes import shape_of
from samullm_tui.domain.application import LLM
from samullm_tui.domain.cluster import PRESETS, cluster_from_preset
from samullm_tui.domain.errors import InputError
from samullm_tui.engines import installed
from samullm_tui.forecast.profile_store import (
    check_writable,
    profile_for,
    read_store,
    stored_file,
    write_profile,
)
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.latency.profile import Profile, Provenance, encode_profile
from samullm_tui.supervisor.machine import choose_machine

VICUNA = "lmsys/vicuna-13b-v1.5"
GPU = PRESETS["a100-80g"]
VERSION = "0.32.0"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMULLM_HOME", str(tmp_path / "home"))
    vllm = installed.InstalledVllm(VERSION, "vllm", "gpu")
    monkeypatch.setattr("samullm_tui.forecast.profile_store.installed_vllm", lambda: vllm)
    return tmp_path / "home"


def profile(checkpoint: str = VICUNA, version: str = VERSION, **fields: object) -> Profile:
    arguments = fields.pop("arguments", {})
    date = fields.pop("date", "2026-01-02")
    measured = Provenance(date=date, device="NVIDIA A100", vllm=version, arguments=arguments)
    latency = IterationLatency((0.0123, *[0.0] * (len(COEFFICIENTS) - 1)))
    base = Profile(
        iteration=latency,
        checkpoint=checkpoint,
        gpu=GPU.name,
        tp=1,
        source="measured here",
        load_s=33.0,
        kv_blocks=900,
        measured=measured,
    )
    return replace(base, **fields)


def keep(one: Profile) -> Path:
    assert one.measured is not None
    file = stored_file(one.checkpoint, one.gpu, one.tp, one.measured.vllm)
    write_profile(one, file)
    return file


def planned(checkpoint: str = VICUNA, *, tp: int = 1, gpu: str = "a100-80g", **engine: object) -> Profile:
    shape = shape_of(checkpoint)
    assert shape is not None
    llm = LLM(name="x", checkpoint=checkpoint, lengths="x", engine=engine)
    found = profile_for(llm, shape, PRESETS[gpu], tp)
    assert found is not None
    return found


def test_a_stored_profile_comes_before_the_catalogs() -> None:
    catalog = planned()
    assert not catalog.estimate
    keep(profile())
    assert planned() == profile()
    assert planned(tp=2) == profile_without_store(tp=2), "another tp is another profile"


def profile_without_store(tp: int) -> Profile:
    for file in read_store().profiles:
        file.unlink()
    return planned(tp=tp)


def test_a_stored_profile_comes_before_an_estimate() -> None:
    assert planned("Qwen/Qwen3-32B", gpu="h200-141g").estimate
    keep(profile("Qwen/Qwen3-32B", gpu="H200-141GB"))
    assert not planned("Qwen/Qwen3-32B", gpu="h200-141g").estimate


def test_one_of_another_engine_version_is_used_and_says_so() -> None:
    keep(profile(version="0.31.0"))
    found = planned()
    assert found.load_s == 33.0
    assert found.estimate
    assert "measured with vLLM 0.31.0, installed is 0.32.0" in found.source
    keep(profile(load_s=22.0))
    assert planned() == profile(load_s=22.0), "that of the installed version is preferred"


def test_among_other_versions_the_latest_measurement_is_used() -> None:
    keep(profile(version="0.31.0", load_s=1.0, date="2025-01-01"))
    keep(profile(version="0.30.0", load_s=2.0, date="2026-01-01"))
    assert planned().load_s == 2.0


def test_one_of_another_gpu_is_not_used_and_the_estimate_says_so() -> None:
    keep(profile("Qwen/Qwen3-32B", gpu="H100-80GB"))
    found = planned("Qwen/Qwen3-32B", gpu="h200-141g")
    assert found.load_s != 33.0
    assert found.estimate
    assert "the stored profile of H100-80GB is not used" in found.source


def test_what_was_measured_here_calibrates_the_gpu_for_other_llms() -> None:
    before = planned("Qwen/Qwen3-32B", gpu="h200-141g", tp=2)
    slow = IterationLatency((0.2, *before.iteration.coefficients[1:]))
    keep(profile("meta-llama/Llama-2-70b-chat-hf", gpu="H200-141GB", tp=2, iteration=slow))
    after = planned("Qwen/Qwen3-32B", gpu="h200-141g", tp=2)
    assert "LLMs that you measured" in after.source
    assert after.iteration != before.iteration
    keep(profile("/no/longer/here", gpu="H200-141GB"))
    assert planned("Qwen/Qwen3-32B", gpu="h200-141g", tp=2) == after, (
        "what nobody knows the shape of is left out"
    )


def test_limits_that_were_given_only_for_the_measurement_are_not_those_of_a_run() -> None:
    keep(profile(arguments={"max_num_seqs": 7}, max_num_seqs=7))
    assert planned().max_num_seqs == 256
    assert planned(max_num_seqs=7).max_num_seqs == 7
    assert not planned(max_num_seqs=9).estimate, "a forecast takes the application's own"


def test_engine_arguments_that_change_a_steps_cost_are_said() -> None:
    keep(profile())
    found = planned(enforce_eager=True)
    assert found.estimate
    assert "the application gives enforce_eager=True" in found.source


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"tp": 0}', encode_profile(profile())[:-20]])
def test_what_is_corrupt_is_named_by_its_file_and_skipped_aloud(content: bytes) -> None:
    good = keep(profile("tiny:llama", gpu="CPU slot"))
    bad = keep(profile())
    bad.write_bytes(content)
    store = read_store()
    assert list(store.profiles) == [good]
    assert {problem.file for problem in store.problems} == {str(bad)}
    assert planned().source != "measured here"
    notes = choose_machine("a100-80g:2", "simulated").notes
    assert any("skipped" in note and str(bad) in note for note in notes)


def test_an_empty_home_has_no_profiles_and_nothing_is_made_there(home: Path) -> None:
    assert read_store().profiles == {}
    assert not home.exists()


def test_a_place_that_cannot_be_written_is_said_before_and_after(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        check_writable(file / "profiles")
    with pytest.raises(InputError, match="cannot be written"):
        write_profile(profile(), file / "profiles" / "x.json")
    with pytest.raises(InputError, match="cannot be written"):
        write_profile(profile(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a file"], "nothing half is left"


names = st.text(st.sampled_from("aB/._- :é"), min_size=1, max_size=12)


@given(names, names)
def test_every_checkpoint_has_a_file_of_its_own_inside_the_store(one: str, other: str) -> None:
    files = [stored_file(name, "A100-80GB", 1, VERSION) for name in (one, other)]
    assert (files[0] == files[1]) == (one == other)
    assert files[0].parent == stored_file("x", "y", 1, "z").parent
    assert cluster_from_preset("a100-80g:1").gpu.name.lower() in files[0].name.lower()
