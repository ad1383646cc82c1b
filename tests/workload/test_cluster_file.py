"""Promise: a cluster is a preset or a file, and a wrong one is refused at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from samullm_tui.domain.cluster import GIB, PRESETS
from samullm_tui.domain.errors import ClusterError, Problem
from samullm_tui.workload.cluster_file import load_cluster

GOOD = 'name = "lab"\ngpu = "a100-80g"\ngpus = 4\n'
OWN = 'name = "own"\ngpus = 3\n[gpu]\nname = "X"\nmemory_gib = 192\nbandwidth_gb_per_s = 5300.5\ntflops = 1300\n'


def write(folder: Path, text: str) -> str:
    path = folder / "cluster.toml"
    path.write_text(text)
    return str(path)


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ClusterError) as caught:
        load_cluster(text)
    return caught.value.problems


def test_a_preset_needs_no_file() -> None:
    cluster = load_cluster("a100-80g:8")
    assert (cluster.gpus, cluster.origin) == (8, "preset")
    assert "unknown cluster preset" in problems_of("a100:8")[0].wrong


def test_a_file_with_a_preset_gpu_has_its_islands(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, GOOD))
    assert cluster.gpu == PRESETS["a100-80g"]
    assert cluster.islands == ((0, 1), (2, 3))
    assert (cluster.name, cluster.origin) == ("lab", "file")
    assert load_cluster(write(tmp_path, GOOD + "islands = [[0, 1, 2, 3]]\n")).islands == ((0, 1, 2, 3),)


def test_a_file_with_own_figures_uses_datasheet_units(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, OWN))
    assert cluster.gpu.memory_bytes == 192 * GIB
    assert cluster.gpu.bandwidth_bytes_per_s == 5300.5e9
    assert cluster.gpu.flops_per_s == 1.3e15
    assert cluster.islands == ((0, 1, 2),)


MISTAKES: list[tuple[str, str, str, str, str]] = [
    ("preset typo", '"a100-80g"', '"a100-80"', "gpu", "a100-80g"),
    ("no GPUs", "gpus = 4", "gpus = 0", "gpus", "at least 1"),
    ("too many", "gpus = 4", "gpus = 65", "gpus", "at most 64"),
    ("a text", "gpus = 4", 'gpus = "4"', "gpus", "whole number"),
    ("missing", "gpus = 4", "", "gpus", "how many"),
    ("typo", "gpus = 4", "gpus = 4\nisland = []", "island", "'islands'"),
    ("twice", "gpus = 4", "gpus = 4\nislands = [[0, 1], [1, 2, 3]]", "islands", "GPU 1 stands there twice"),
    ("left out", "gpus = 4", "gpus = 4\nislands = [[0, 1]]", "islands", "GPUs 2, 3"),
    ("too high", "gpus = 4", "gpus = 4\nislands = [[0, 1, 2, 3, 4]]", "islands", "no GPU 4"),
    ("empty island", "gpus = 4", "gpus = 4\nislands = [[0, 1, 2, 3], []]", "islands", "empty"),
    ("bad name", '"lab"', '"a b"', "name", "not a name"),
]


@pytest.mark.parametrize(
    ("old", "new", "place", "word"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_each_mistake_is_named_at_its_place(
    tmp_path: Path, old: str, new: str, place: str, word: str
) -> None:
    found = problems_of(write(tmp_path, GOOD.replace(old, new)))
    assert any(p.place.split(" ")[0] == place and word in f"{p.wrong}; {p.right}" for p in found), found


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = OWN.replace("gpus = 3", "gpus = -3").replace("192", "0").replace("tflops", "flops")
    places = {p.place.split(" ")[0] for p in problems_of(write(tmp_path, text))}
    assert places == {"gpus", "gpu.memory_gib", "gpu.tflops", "gpu.flops"}


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert problems_of(str(tmp_path / "none.toml"))[0].wrong == "no such file"
    assert problems_of(f"{tmp_path}/")[0].wrong == "is a folder"
    assert "not TOML" in problems_of(write(tmp_path, "gpus ="))[0].wrong
