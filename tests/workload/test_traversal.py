"""Promise: an application file cannot leave its folder: `..`, links, absolute paths, devices, URLs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from samullm_tui.domain.application import Application
from samullm_tui.domain.errors import ApplicationError
from samullm_tui.workload.application_file import load_application


def load(folder: Path, *, file: str = "d.jsonl", checkpoint: str = "tiny:llama", more: str = "", outside: bool = False) -> Application:  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / "app.toml"
    path.write_text(
        f'name = "x"\n[llms.a]\ncheckpoint = {json.dumps(checkpoint)}\n{more}\n[data.d]\nfile = {json.dumps(file)}\n'
        '[nodes.n]\nllm = "a"\nfrom = "d"\nprompt = "{text}"\n'
    )
    return load_application(path, allow_outside=outside)


def message(folder: Path, **how: str) -> str:
    with pytest.raises(ApplicationError) as caught:
        load(folder, **how)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    return str(problem)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "sub").mkdir(parents=True)
    for path in (
        tmp_path / "secret.jsonl",
        folder / "d.jsonl",
        folder / "sub" / "e.jsonl",
        tmp_path / "app2.jsonl",
    ):
        path.write_text('{"id": "1", "text": "a"}\n')
    return folder


OUTSIDE = [
    "../secret.jsonl",
    "sub/../../secret.jsonl",
    "./../app/d.jsonl",
    "sub/../d.jsonl",
    "/etc/passwd",
    "//etc/passwd",
    "~/d.jsonl",
    "~root/d.jsonl",
    "/dev/stdin",
    "/proc/self/environ",
    "/dev/fd/0",
]


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_path_that_leaves_the_folder_is_refused(app: Path, file: str) -> None:
    text = message(app, file=file)
    assert "data.d.file" in text
    assert "leaves the folder" in text
    assert "--allow-outside" in text


URLS = ["https://example.org/d.jsonl", "file:///etc/passwd", "file:d.jsonl", "s3://bucket/d.jsonl", "data:,x"]


@pytest.mark.parametrize("file", URLS)
def test_a_url_is_never_read(app: Path, file: str) -> None:
    assert "is a URL" in message(app, file=file)


@pytest.mark.parametrize("file", [" ", "d.jsonl\x00", "d\n.jsonl", "\u202ed.jsonl", "d\x1b[2J.jsonl"])
def test_what_is_no_path_is_refused(app: Path, file: str) -> None:
    text = message(app, file=file)
    assert "is not a path" in text
    assert "\x1b" not in text


def test_links_are_followed_before_they_are_judged(app: Path) -> None:
    (app / "out.jsonl").symlink_to("../secret.jsonl")
    (app / "outdir").symlink_to("..")
    (app / "zero.jsonl").symlink_to("/dev/zero")
    (app / "beside.jsonl").symlink_to(app.parent / "app2.jsonl")  # begins with the folder's name
    for file in ("out.jsonl", "outdir/secret.jsonl", "zero.jsonl", "beside.jsonl"):
        assert "link that leaves the folder" in message(app, file=file)
    (app / "in.jsonl").symlink_to("sub/e.jsonl")
    assert load(app, file="in.jsonl").data[0].file == str(app / "sub" / "e.jsonl")


def test_a_loop_of_links_is_refused(app: Path) -> None:
    (app / "a.jsonl").symlink_to("b.jsonl")
    (app / "b.jsonl").symlink_to("a.jsonl")
    assert "data.d.file" in message(app, file="a.jsonl")


def test_only_regular_files_with_a_known_ending_are_read(app: Path) -> None:
    os.mkfifo(app / "pipe.jsonl")
    (app / "d.txt").write_text("x")
    assert "not a regular file" in message(app, file="pipe.jsonl")
    assert "is a folder" in message(app, file="sub")
    assert "ending '.txt'" in message(app, file="d.txt")
    assert "did you mean 'd.jsonl'" in message(app, file="dd.jsonl")
    assert "no file" in message(app, file="x" * 5_000 + ".jsonl")


def test_the_operator_may_allow_more_but_never_devices_or_urls(app: Path) -> None:
    assert load(app, file="../secret.jsonl", outside=True).data[0].file == str(app.parent / "secret.jsonl")
    assert load(app, file=str(app.parent / "secret.jsonl"), outside=True).has_texts
    for file in ("/dev/zero", "https://example.org/d.jsonl", "/etc"):
        with pytest.raises(ApplicationError):
            load(app, file=file, outside=True)


def test_a_checkpoint_folder_stays_inside_too(app: Path) -> None:
    (app.parent / "model").mkdir()
    assert "leaves the folder" in message(app, checkpoint="../model")
    assert "leaves the folder" in message(app, checkpoint="/models/llama")
    (app / "link").symlink_to("../model")
    assert "link that leaves" in message(app, checkpoint="link")
    assert "is a URL" in message(app, checkpoint="hf://org/name")


def checkpoint(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_checkpoint_folder_is_looked_into_before_any_engine_is(app: Path) -> None:
    checkpoint(app / "good", "config.json", "model.safetensors")
    checkpoint(app / "noconfig", "model.safetensors")
    checkpoint(app / "pickled", "config.json", "pytorch_model.bin")
    checkpoint(app / "empty", "config.json")
    assert load(app, checkpoint="./good").llms[0].checkpoint == str(app / "good")
    assert load(app, checkpoint="good").llms[0].checkpoint == str(app / "good")
    assert load(app, checkpoint="./good/").llms[0].lengths == "good"
    assert "no config.json" in message(app, checkpoint="./noconfig")
    assert "safetensors" in message(app, checkpoint="./pickled")
    assert "no weights" in message(app, checkpoint="./empty")
    assert "not a folder" in message(app, checkpoint="./none")
    told = load(app, checkpoint="./pickled", more='engine = { load_format = "pt" }')
    assert told.llms[0].engine == {"load_format": "pt"}
    made_up = load(app, checkpoint="./empty", more='engine = { load_format = "dummy" }')
    assert made_up.llms[0].engine == {"load_format": "dummy"}


def test_remote_code_is_off_and_needs_a_pinned_revision(app: Path) -> None:
    assert not load(app, checkpoint="org/name").llms[0].trust_remote_code
    pinned = load(app, checkpoint="org/name", more=f'trust_remote_code = true\nrevision = "{"0f" * 20}"')
    assert pinned.llms[0].trust_remote_code
    assert "40 hexadecimal" in message(app, checkpoint="org/name", more="trust_remote_code = true")
