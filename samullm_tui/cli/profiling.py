"""profile: measures a real engine and keeps what it found for forecasts."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from msgspec import to_builtins

from samullm_tui.cli.output import print_json, print_table, say, seconds
from samullm_tui.cli.profile_subject import NAME, Subject, subject_of
from samullm_tui.domain.application import LLM, Scalar
from samullm_tui.domain.errors import EngineError, InputError
from samullm_tui.engines.installed import InstalledVllm, require_vllm
from samullm_tui.engines.profiling import Measured, Probe, measure
from samullm_tui.engines.step_log import write_steps
from samullm_tui.forecast.profile_store import check_writable, stored_file, write_profile
from samullm_tui.latency.fit import Fit, fit
from samullm_tui.latency.profile import Profile, Provenance
from samullm_tui.telemetry.gpu import driver_version, gpu_name
from samullm_tui.telemetry.host import processor_name

__all__ = ["profile"]

ENGINE_ARGUMENTS = ("max_num_seqs", "max_num_batched_tokens")


def profile(arguments: Namespace) -> int:
    """What can be wrong with the input is found before an engine is started."""
    if arguments.hardware:
        from samullm_tui.cli.hardware import hardware

        return hardware(arguments)
    subject = subject_of(arguments)
    gpu = subject.cluster.gpu
    vllm = require_vllm(gpu.kind)
    stored = stored_file(subject.checkpoint, gpu.name, arguments.tp, vllm.version)
    files = [stored, *([arguments.output.absolute()] if arguments.output else [])]
    for file in [*files, *([arguments.iterations.absolute()] if arguments.iterations else [])]:
        check_writable(file.parent)
    began_s = time.monotonic()
    measured, fitted = _measure(subject, arguments)
    found = _profile(subject, arguments, vllm, measured, fitted)
    problems = _write(found, files, measured, arguments.iterations)
    took_s = time.monotonic() - began_s
    if arguments.json:
        print_json({**to_builtins(found), "file": str(files[-1]), "measured_in_s": took_s})
    else:
        _print(found, took_s)
    for problem in problems:
        say(problem)
    return 1 if problems else 0


def _measure(subject: Subject, arguments: Namespace) -> tuple[Measured, Fit]:
    """Logs and steps are in a folder of their own, which stays only when an engine failed."""
    folder = Path(tempfile.mkdtemp(prefix="samullm-profile-"))
    probe = Probe(
        llm=LLM(
            name=NAME,
            checkpoint=subject.place,
            lengths=NAME,
            context=arguments.context,
            engine=_given(arguments),
        ),
        replicas=subject.replicas,
        device=subject.cluster.gpu.kind,
        run=f"profile-{secrets.token_hex(4)}",
        folder=folder,
        vocab=subject.shape.vocab,
        load_s=arguments.seconds,
        starts=arguments.starts,
    )
    rng = np.random.default_rng(arguments.seed)
    keep = False
    try:
        measured = asyncio.run(measure(probe, rng, say))
    except EngineError:
        keep = True
        say(f"the engines' logs are in {folder}")
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    shape = subject.shape
    rows = measured.steps.rows
    return measured, fit(rows, experts=shape.experts, experts_per_token=shape.experts_per_token, rng=rng)


def _given(arguments: Namespace) -> dict[str, Scalar]:
    return {name: value for name in ENGINE_ARGUMENTS if (value := getattr(arguments, name)) is not None}


def _profile(
    subject: Subject, arguments: Namespace, vllm: InstalledVllm, measured: Measured, fitted: Fit
) -> Profile:
    steps = measured.steps
    provenance = _provenance(subject, arguments, vllm, measured, fitted)
    beside = f", {provenance.beside} more beside" if provenance.beside else ""
    return Profile(
        iteration=fitted.latency,
        checkpoint=subject.checkpoint,
        gpu=subject.cluster.gpu.name,
        tp=arguments.tp,
        engine=f"vLLM {vllm.version} ({vllm.build.upper()} build)",
        source=f"measured on {provenance.device} on {provenance.date}, {fitted.rows:,} steps{beside}",
        load_s=measured.warm_start_s,
        kv_blocks=steps.kv_blocks,
        block_size=steps.setup.block_size,
        max_num_seqs=steps.setup.max_num_seqs,
        max_num_batched_tokens=steps.setup.max_num_batched_tokens,
        median_ape=fitted.median_ape,
        mape=fitted.mape,
        bias=fitted.bias,
        measured=provenance,
    )


def _provenance(
    subject: Subject, arguments: Namespace, vllm: InstalledVllm, measured: Measured, fitted: Fit
) -> Provenance:
    setup, on_gpu = measured.steps.setup, subject.cluster.gpu.kind == "gpu"
    return Provenance(
        date=datetime.now(UTC).date().isoformat(),
        device=(gpu_name(subject.replicas[0].gpus[0]) if on_gpu else None) or processor_name(),
        vllm=vllm.version,
        driver=(driver_version() or "") if on_gpu else "",
        torch=_torch_version(),
        dtype=setup.dtype,
        asynchronous=setup.asynchronous,
        max_model_len=setup.max_model_len,
        arguments=_given(arguments),
        beside=len(subject.replicas) - 1,
        starts_s=measured.starts_s,
        rows=fitted.rows,
        held_out_rows=fitted.held_out_rows,
    )


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def _write(found: Profile, files: Sequence[Path], measured: Measured, steps: Path | None) -> list[str]:
    """What could not be written: a measurement of minutes is printed all the same."""
    writes = [(file, partial(write_profile, found, file)) for file in files]
    if steps:
        writes.append((steps, partial(write_steps, measured.steps.rows, steps)))
    problems = []
    for file, write in writes:
        try:
            write()
            say(f"written to {file}")
        except InputError as error:
            problems.append(str(error))
    return problems


def _print(found: Profile, took_s: float) -> None:
    measured = found.measured
    assert measured is not None
    rounds = ["first start " + ", ".join(seconds(one) for one in measured.starts_s[0])]
    rounds += ["with its caches " + ", ".join(map(seconds, later)) for later in measured.starts_s[1:]]
    rows = [
        ("start to first token", f"{found.load_s:.1f} s ({'; '.join(rounds)})"),
        ("KV cache", f"{found.kv_blocks:,} blocks of {found.block_size} tokens"),
        ("a step holds", f"{found.max_num_seqs:,} sequences, {found.max_num_batched_tokens:,} tokens"),
        ("1 sequence decoding", _step_text(found, 1)),
        (f"{found.max_num_seqs} sequences decoding", _step_text(found, found.max_num_seqs)),
        ("steps measured", f"{measured.rows:,}, {measured.held_out_rows:,} of them kept out of the fit"),
        ("errors on those", f"median {found.median_ape:.1%}, mean {found.mape:.1%}, bias {found.bias:+.1%}"),
        ("engines beside it", f"{measured.beside}"),
    ]
    print_table((f"{found.checkpoint}, tp {found.tp}, {measured.device}, {found.engine}", ""), rows)
    print(f"measured in {seconds(took_s)}")


def _step_text(found: Profile, batch: int) -> str:
    context = 512
    step_s = found.iteration.seconds(batch, 0, 0.0, batch, float(batch * context))
    return f"{step_s * 1e3:.2f} ms a step at {context} tokens each"
