"""Promises of what ships about known LLMs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest

from samullm_tui.catalog.lengths import distribution_of, names
from samullm_tui.catalog.profiles import ProfileTable, estimated_profile, profile_of
from samullm_tui.catalog.shapes import DATA, checkpoints, known_checkpoint, shape_of
from samullm_tui.domain.cluster import PRESETS, GpuType
from samullm_tui.latency.memory import precision_of
from samullm_tui.latency.model import DISTINCT_EXPERT, IterationLatency
from samullm_tui.latency.profile import Profile, decode_profile, encode_profile
from samullm_tui.latency.shape import expert_params
from samullm_tui.lengths.families import fit_families

A100, H100, CPU = PRESETS["a100-80g"], PRESETS["h100-80g"], PRESETS["cpu"]
MAKE_CATALOG = Path(__file__).resolve().parents[2] / "benchmarks" / "make_catalog.py"
ENSEMBLE = (
    "lmsys/vicuna-13b-v1.5",
    "OpenAssistant/oasst-sft-4-pythia-12b-epoch-3.5",
    "chavinlo/alpaca-13b",
    "project-baize/baize-v2-13b",
    "TheBloke/koala-13B-HF",
    "databricks/dolly-v2-12b",
    "mosaicml/mpt-7b-chat",
    "THUDM/chatglm3-6b",
    "stabilityai/stablelm-tuned-alpha-7b",
)
ROUTING = (
    "meta-llama/Llama-2-70b-chat-hf",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "WizardLMTeam/WizardLM-13B-V1.2",
    "meta-llama/CodeLlama-34b-Instruct-hf",
    "mistralai/Mistral-7B-Instruct-v0.2",
)


@pytest.fixture(scope="module")
def make_catalog() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_catalog", MAKE_CATALOG)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table() -> ProfileTable:
    return msgspec.json.decode((DATA / "profiles.json").read_bytes(), type=ProfileTable)


def profile(checkpoint: str, gpu: str, tp: int) -> Profile:
    found = profile_of(checkpoint, PRESETS[gpu], tp)
    assert found
    return found


@pytest.mark.parametrize(
    "name", ["lmsys/vicuna-13b-v1.5", "LMSYS/VICUNA-13B-v1.5", "vicuna-13b-v1.5", "/models/Vicuna-13b-v1.5/"]
)
def test_an_llm_is_found_by_checkpoint_name_or_folder_in_any_case(name: str) -> None:
    assert known_checkpoint(name) == "lmsys/vicuna-13b-v1.5"
    assert shape_of(name) == shape_of("lmsys/vicuna-13b-v1.5")
    found = distribution_of(name)
    assert found
    assert found.name == "vicuna-13b-v1.5"


def test_what_is_unknown_is_none_and_not_an_error() -> None:
    assert (shape_of("x/y"), distribution_of("x/y"), profile_of("x/y", A100, 1)) == (None, None, None)
    assert profile_of("lmsys/vicuna-13b-v1.5", H100, 1) is None


def test_reading_shapes_and_lengths_needs_neither_scipy_nor_compiled_code() -> None:
    code = (
        "import sys; from samullm_tui.catalog.lengths import *; from samullm_tui.catalog.shapes import *; "
        "distribution_of('vicuna-13b-v1.5'); shape_of('vicuna-13b-v1.5'); "
        "print({'scipy', 'numba', 'torch'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize("checkpoint", [*ENSEMBLE, *ROUTING, "tiny:llama", "tiny:qwen3", "tiny:gpt2"])
def test_every_llm_of_the_applications_has_a_shape_and_lengths(checkpoint: str) -> None:
    assert shape_of(checkpoint)
    assert (checkpoint == "stabilityai/stablelm-tuned-alpha-7b") == (distribution_of(checkpoint) is None)


@pytest.mark.parametrize("checkpoint", [*ENSEMBLE, *ROUTING])
@pytest.mark.parametrize("gpu", [A100, H100], ids=lambda gpu: gpu.name)
def test_every_llm_of_the_applications_runs_somewhere_in_an_island(checkpoint: str, gpu: GpuType) -> None:
    shape = shape_of(checkpoint)
    assert shape
    found = [
        profile_of(checkpoint, gpu, tp) or estimated_profile(checkpoint, shape, gpu, tp) for tp in (1, 2, 4)
    ]
    fits = [p for p in found if p]
    assert fits
    for p in fits:
        assert decode_profile(encode_profile(p), "p.json") == p
        assert p.source
        assert p.load_s
        assert p.kv_blocks
    assert all(p.estimate for p in fits) == (gpu is H100 or profile_of(checkpoint, gpu, 2) is None)


def test_a_profile_says_whose_iterations_it_has() -> None:
    koala = profile("TheBloke/koala-13B-HF", "a100-80g", 1)
    assert not koala.estimate
    assert "chavinlo/alpaca-13b (same shape)" in koala.source
    assert koala.iteration == profile("chavinlo/alpaca-13b", "a100-80g", 1).iteration
    assert koala.load_s == 28.252
    assert "its iterations" in profile("lmsys/vicuna-13b-v1.5", "a100-80g", 1).source


def test_a_mixture_keeps_its_experts() -> None:
    mixtral = profile("mistralai/Mixtral-8x7B-Instruct-v0.1", "a100-80g", 2)
    assert (mixtral.iteration.experts, mixtral.iteration.experts_per_token) == (8, 2)
    assert mixtral.load_s == 51.642
    assert mixtral.kv_blocks == 23_019


@pytest.mark.parametrize("name", ["mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-30B-A3B-Instruct-2507"])
def test_no_expert_is_read_faster_than_the_memory_is(name: str) -> None:
    shape = shape_of(name)
    assert shape
    for gpu in (A100, H100):
        found = profile_of(name, gpu, 2) or estimated_profile(name, shape, gpu, 2)
        assert found
        expert_s = found.iteration.coefficients[DISTINCT_EXPERT]
        assert expert_s > expert_params(shape) * 2 / (2 * gpu.bandwidth_bytes_per_s)


def test_a_start_time_that_was_measured_is_used_beside_an_estimated_latency() -> None:
    shape = shape_of("meta-llama/Llama-2-70b-chat-hf")
    assert shape
    found = estimated_profile("meta-llama/Llama-2-70b-chat-hf", shape, A100, 4)
    assert found
    assert found.estimate
    assert found.load_s == 45.217
    assert estimated_profile("meta-llama/Llama-2-70b-chat-hf", shape, A100, 1) is None
    assert estimated_profile("meta-llama/Llama-2-70b-chat-hf", shape, A100, 3) is None


def test_a_measured_llm_is_rescaled_where_it_was_not_measured() -> None:
    shape = shape_of("lmsys/vicuna-13b-v1.5")
    assert shape
    found = estimated_profile("lmsys/vicuna-13b-v1.5", shape, H100, 1)
    assert found
    assert "measured on A100-80GB at tp 1, rescaled" in found.source
    step = (32, 0, 0, 32, 32 * 1000)
    here, there = profile("lmsys/vicuna-13b-v1.5", "a100-80g", 1).iteration, found.iteration
    assert 0.4 < there.seconds(*step) / here.seconds(*step) < 0.8


def test_an_unmeasured_llm_takes_the_rates_of_those_measured_on_the_gpu() -> None:
    shape = shape_of("Qwen/Qwen2.5-7B-Instruct")
    assert shape
    here = estimated_profile("Qwen/Qwen2.5-7B-Instruct", shape, A100, 1)
    there = estimated_profile("Qwen/Qwen2.5-7B-Instruct", shape, H100, 1)
    assert here
    assert there
    assert "calibrated by other LLMs measured on A100-80GB" in here.source
    assert "the rates of H100-80GB" in there.source


def test_profiles_that_the_user_measured_replace_the_shipped_rates() -> None:
    """One LLM measured at twice the speed of its estimate: the others become twice as fast, and say why."""
    one, other = shape_of("meta-llama/Llama-3.1-8B-Instruct"), shape_of("Qwen/Qwen2.5-7B-Instruct")
    assert one
    assert other
    plain = estimated_profile("meta-llama/Llama-3.1-8B-Instruct", one, H100, 1)
    before = estimated_profile("Qwen/Qwen2.5-7B-Instruct", other, H100, 1)
    assert plain
    assert before
    halved = IterationLatency(tuple(c / 2 for c in plain.iteration.coefficients))
    mine = msgspec.structs.replace(plain, iteration=halved, estimate=False)
    after = estimated_profile("Qwen/Qwen2.5-7B-Instruct", other, H100, 1, own=[(one, 1, mine)])
    assert after
    assert "LLMs that you measured on H100-80GB" in after.source
    for step in ((8, 0, 0, 8, 8000), (2, 2048, 1024 * 2048.0, 0, 0)):
        ratio = after.iteration.seconds(*step) / before.iteration.seconds(*step)
        assert ratio == pytest.approx(0.5, rel=0.05)
    same = estimated_profile("meta-llama/Llama-3.1-8B-Instruct", one, H100, 2, own=[(one, 1, mine)])
    assert same
    assert "measured on H100-80GB at tp 1, rescaled" in same.source


def test_a_quantised_checkpoint_leaves_more_for_the_cache_and_is_read_faster() -> None:
    shape = shape_of("meta-llama/Llama-3.1-70B-Instruct")
    assert shape
    name = "meta-llama/Llama-3.1-70B-Instruct"
    assert estimated_profile(name, shape, H100, 1) is None
    four = estimated_profile(name, shape, H100, 1, precision=precision_of(quantization="awq"))
    assert four
    plain = estimated_profile(name, shape, H100, 2)
    small = estimated_profile(name, shape, H100, 2, precision=precision_of(quantization="awq"))
    assert plain
    assert small
    assert small.iteration.seconds(1, 0, 0, 1, 100) < plain.iteration.seconds(1, 0, 0, 1, 100)


def test_the_cpu_engine_has_a_profile_for_every_tiny_checkpoint() -> None:
    for name in ("tiny:llama", "tiny:qwen3", "tiny:gpt2"):
        found = profile(name, "cpu", 1)
        assert (found.block_size, found.kv_blocks, found.max_num_seqs) == (128, 256, 128)
        assert 0.0005 < found.iteration.seconds(2, 0, 0, 2, 700) < 0.005
        shape = shape_of(name)
        assert shape
        estimate = estimated_profile(name, shape, CPU, 1)
        assert estimate
        ratio = estimate.iteration.seconds(32, 0, 0, 32, 9000) / found.iteration.seconds(32, 0, 0, 32, 9000)
        assert 0.3 < ratio < 3


def test_every_profile_is_complete_and_no_two_are_for_the_same_place() -> None:
    profiles = table().profiles
    places = [(p.checkpoint, p.gpu, p.tp) for p in profiles]
    assert len(set(places)) == len(places)
    for p in profiles:
        assert p.checkpoint in checkpoints()
        assert decode_profile(encode_profile(p), "p.json") == p
        assert not p.estimate
        assert p.median_ape is not None
        assert p.median_ape <= (0.2 if p.gpu == CPU.name else 0.09)


def test_the_quantile_tables_are_sound() -> None:
    measured_names = [name for name in names() if not name.startswith("tiny:")]
    assert len(measured_names) == 23
    for name in names():
        found = distribution_of(name)
        assert found
        assert found.source
        assert found.tokens[0] >= 1
        assert 0 <= found.censored_share <= 1
        quantiles = found.quantile(np.linspace(0, 1, 101))
        assert (np.diff(quantiles) >= 0).all()


def test_families_of_a_table_are_found_for_every_llm_that_ended_by_itself() -> None:
    for name in ("vicuna-13b-v1.5", "baize-v2-13b"):
        found = distribution_of(name)
        assert found
        assert min(fit.ks for fit in fit_families(found)) < 0.08
    broken = distribution_of("AquilaChat-7B")
    assert broken
    assert broken.censored_share == 1
    assert fit_families(broken) == ()


@pytest.mark.data
def test_the_files_are_what_the_generator_makes_of_the_measurements(
    make_catalog: ModuleType, measured: Path
) -> None:
    assert (DATA / "lengths.csv").read_text() == make_catalog.lengths_text(measured)
    assert (DATA / "shapes.csv").read_text() == make_catalog.shapes_text(measured)
    made, shipped = make_catalog.profile_table(measured), table()
    assert made.facts == shipped.facts
    for gpu, rates in shipped.rates.items():
        assert msgspec.structs.astuple(made.rates[gpu]) == pytest.approx(
            msgspec.structs.astuple(rates), rel=1e-3, abs=1e-9
        )
    for new, old in zip(made.profiles, shipped.profiles, strict=True):
        # Coefficients may differ in the last digits from one machine's linear algebra to another's.
        assert new.iteration.coefficients == pytest.approx(old.iteration.coefficients, rel=1e-3, abs=1e-12)
        assert [new.median_ape, new.mape, new.bias] == pytest.approx(
            [old.median_ape, old.mape, old.bias], abs=1e-3
        )
        same = {"iteration": old.iteration, "median_ape": 0.0, "mape": 0.0, "bias": 0.0}
        assert msgspec.structs.replace(new, **same) == msgspec.structs.replace(old, **same)


@pytest.mark.data
def test_the_tables_keep_the_measured_distributions(make_catalog: ModuleType, measured: Path) -> None:
    tables: dict[str, list[tuple[int, float]]] = {}
    for row in make_catalog.read_rows(measured / "samullm-authors" / "output_length_pmf_no_robots.csv.gz"):
        tables.setdefault(row["model"], []).append((int(row["length"]), float(row["probability"])))
    assert len(tables) == 23
    for name, rows in tables.items():
        lengths, shares = np.array(rows).T
        found = distribution_of(name)
        assert found
        assert found.mean == pytest.approx(float(lengths @ shares), rel=0.005)
        assert np.abs(found.cdf(lengths) - np.cumsum(shares)).max() < 1.1e-3
        assert found.max == lengths[shares > 1e-9].max()
