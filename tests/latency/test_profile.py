"""Promises of profile files."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from samullm_tui.domain.cluster import PRESETS
from samullm_tui.domain.errors import ProfileError
from samullm_tui.latency.model import COEFFICIENTS, IterationLatency
from samullm_tui.latency.profile import Profile, Provenance, decode_profile, default_limits, encode_profile

ITERATION = IterationLatency(tuple(0.001 * (i + 1) for i in range(len(COEFFICIENTS))), 8, 2)
PROFILE = Profile(iteration=ITERATION, checkpoint="a/b", gpu="A100-80GB", tp=2, load_s=12.5, kv_blocks=900)


def changed(**values: object) -> bytes:
    return json.dumps(json.loads(encode_profile(PROFILE)) | values).encode()


@given(
    st.lists(st.floats(1e-12, 1), min_size=len(COEFFICIENTS), max_size=len(COEFFICIENTS)),
    st.one_of(st.none(), st.floats(0, 1e4)),
)
def test_what_was_written_is_read_exactly(values: list[float], load_s: float | None) -> None:
    profile = Profile(iteration=IterationLatency(tuple(values)), load_s=load_s)
    assert decode_profile(encode_profile(profile), "p.json") == profile


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"tp": 0}, "tp"),
        ({"tp": "two"}, "tp"),
        ({"load_s": -1.0}, "load_s"),
        ({"kv_blocks": 1}, "kv_blocks"),
        ({"block_size": 0}, "block_size"),
        ({"max_num_seqs": -3}, "max_num_seqs"),
        ({"iteration": {"coefficients": [0.1]}}, "iteration.coefficients"),
        ({"iteration": {"coefficients": [0.0] * len(COEFFICIENTS)}}, "iteration.coefficients"),
        (
            {"iteration": {"coefficients": [0.1, -1.0, *[0.0] * (len(COEFFICIENTS) - 2)]}},
            "iteration.coefficients[1]",
        ),
        (
            {
                "iteration": {
                    "coefficients": list(ITERATION.coefficients),
                    "experts": 2,
                    "experts_per_token": 3,
                }
            },
            "experts",
        ),
        ({"typo": 1}, ""),
    ],
)
def test_a_wrong_value_is_named_by_file_and_place(values: dict[str, object], place: str) -> None:
    with pytest.raises(ProfileError) as caught:
        decode_profile(changed(**values), "p.json")
    assert caught.value.problems[0].file == "p.json"
    assert place in caught.value.problems[0].place


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"tp": 1}', b'{"iteration": "\xff"}']
)
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    with pytest.raises(ProfileError):
        decode_profile(data, "p.json")


@given(st.binary())
def test_no_bytes_make_any_other_error(data: bytes) -> None:
    with pytest.raises(ProfileError):
        decode_profile(data, "p.json")


@pytest.mark.parametrize(
    ("preset", "limits"),
    [
        ("a100-80g", (256, 2048, 16)),
        ("h100-80g", (1024, 8192, 16)),
        ("h200-141g", (1024, 8192, 16)),
        ("l40s-48g", (256, 2048, 16)),
        ("cpu", (128, 2048, 128)),
    ],
)
def test_the_limits_are_those_of_a_vllm_server(preset: str, limits: tuple[int, int, int]) -> None:
    found = default_limits(PRESETS[preset])
    assert (found.max_num_seqs, found.max_num_batched_tokens, found.block_size) == limits


MEASURED = Provenance(
    date="2026-02-28",
    device="NVIDIA A100-SXM4-80GB",
    vllm="0.32.0",
    driver="570.1",
    arguments={"max_num_seqs": 64, "enforce_eager": True},
    beside=1,
    starts_s=((40.0, 41.5), (25.5, 25.0)),
    rows=1000,
    held_out_rows=200,
)


def test_the_provenance_is_read_as_it_was_written() -> None:
    profile = replace(PROFILE, measured=MEASURED)
    assert decode_profile(encode_profile(profile), "p.json") == profile


def test_a_profile_without_provenance_is_one_all_the_same() -> None:
    written = json.loads(encode_profile(PROFILE))
    del written["measured"]
    assert decode_profile(json.dumps(written).encode(), "p.json") == PROFILE


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"load_s": 1e6}, "load_s"),
        ({"kv_blocks": 10**12}, "kv_blocks"),
        ({"tp": 10**6}, "tp"),
        ({"max_num_batched_tokens": 10**12}, "max_num_batched_tokens"),
        ({"median_ape": -0.1}, "median_ape"),
        ({"bias": -1.5}, "bias"),
        ({"mape": 1e9}, "mape"),
        (
            {"iteration": {"coefficients": [1e4, *[0.0] * (len(COEFFICIENTS) - 1)]}},
            "iteration.coefficients[0]",
        ),
    ],
)
def test_an_absurd_value_is_named(values: dict[str, object], place: str) -> None:
    with pytest.raises(ProfileError) as caught:
        decode_profile(changed(**values), "p.json")
    assert [problem.place.partition(" ")[0] for problem in caught.value.problems] == [place]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"date": "yesterday"}, "measured.date"),
        ({"date": "2026-13-01"}, "measured.date"),
        ({"beside": -1}, "measured.beside"),
        ({"rows": 100}, "measured.rows"),
        ({"held_out_rows": -1}, "measured.held_out_rows"),
        ({"starts_s": [[-1.0]]}, "measured.starts_s"),
        ({"starts_s": [[1.0], [1e7]]}, "measured.starts_s"),
        ({"max_model_len": 0}, "measured.max_model_len"),
    ],
)
def test_a_wrong_value_of_the_provenance_is_named(values: dict[str, object], place: str) -> None:
    written = json.loads(encode_profile(replace(PROFILE, measured=MEASURED)))
    written["measured"] |= values
    with pytest.raises(ProfileError) as caught:
        decode_profile(json.dumps(written).encode(), "p.json")
    assert [problem.place.partition(" ")[0] for problem in caught.value.problems] == [place]


def test_an_unknown_field_of_the_provenance_is_named() -> None:
    written = json.loads(encode_profile(replace(PROFILE, measured=MEASURED)))
    written["measured"]["typo"] = 1
    with pytest.raises(ProfileError, match="typo"):
        decode_profile(json.dumps(written).encode(), "p.json")
