"""The arguments of every verb. Verbs are imported only when they are called."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from samullm_tui import __version__
from samullm_tui.simulate.config import POLICIES

__all__ = ["parse"]

Verb = Callable[[argparse.Namespace], int]
Parser = argparse.ArgumentParser


def parse(argv: list[str]) -> argparse.Namespace:
    """The namespace of one call, with `verb` the function to call. A bare APP (or nothing) opens the console."""
    parser, verbs = _build()
    first = next((a for a in argv if not a.startswith("-")), None)
    bare_help = not argv or argv[0] in {"-h", "--help", "--version"}
    if first not in verbs and not (bare_help and argv):
        argv = ["open", *argv]
    return parser.parse_args(argv)


def _build() -> tuple[Parser, frozenset[str]]:
    parser = argparse.ArgumentParser(
        prog="samullm-tui",
        description="The control console for offline multi-LLM applications on a multi-GPU node.",
        epilog="samullm-tui [APP] opens the console. samullm-tui VERB --help explains a verb.",
    )
    parser.add_argument("--version", action="version", version=f"samullm-tui {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (
        *(_console_verbs, _application_verbs, _measurement_verbs, _profile_verb, _run_verbs, _doctor_verb),
    ):
        add(verbs)
    return parser, frozenset(verbs.choices)


def _verb(module: str, name: str) -> Verb:
    def call(arguments: argparse.Namespace) -> int:
        function: Verb = getattr(import_module(f"samullm_tui.cli.{module}"), name)
        return function(arguments)

    return call


Verbs = argparse._SubParsersAction  # noqa: SLF001  (argparse names the type only so)


def _add(verbs: Verbs[Parser], name: str, module: str, text: str) -> Parser:
    parser: Parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(verb=_verb(module, name.replace("-", "_") if name != "open" else "open_"))
    return parser


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object on stdout")


def _application(parser: Parser) -> None:
    parser.add_argument("application", type=Path, metavar="APP", help="an application file (TOML)")
    parser.add_argument("--allow-outside", action="store_true", help="let data files lie outside its folder")


def _machine(parser: Parser) -> None:
    parser.add_argument("--cluster", metavar="NAME|FILE", help="a preset such as a100-80g:8, or a TOML file")
    parser.add_argument(
        "--engine", choices=("vllm", "simulated"), help="default: vllm where there are GPUs and vLLM"
    )
    parser.add_argument("--seed", type=_whole, default=0, metavar="N", help="of everything drawn (default 0)")


def _planning(parser: Parser) -> None:
    draws = "draws of the lengths for every candidate (default: up to 200, fewer where they decide nothing)"
    parser.add_argument("--samples", type=_positive, metavar="N", help=draws)
    parser.add_argument(
        "--quantile", type=_quantile, default=0.5, metavar="Q", help="of the makespan to rank by"
    )


def _what_if(parser: Parser) -> None:
    group = parser.add_argument_group("what if")
    text = "prescribe for one LLM: LLM:tp=2,dp=4,gpus=0-3,stage=1 (any of these; may be repeated)"
    group.add_argument("--pin", action="append", default=[], metavar="PIN", help=text)
    text = "forbid to one LLM: LLM:tp=1 or LLM:gpus=0-1 or LLM:dp=3 (may be repeated)"
    group.add_argument("--forbid", action="append", default=[], metavar="PIN", help=text)
    group.add_argument(
        "--gpus", type=_positive, metavar="N", help="another number of GPUs than the cluster has"
    )
    text = "plan without pins and --gpus too, and say what they cost"
    group.add_argument("--against", action="store_true", help=text)


def _pace(parser: Parser) -> None:
    text = "of simulated engines: times wall time, or max (default 10)"
    parser.add_argument("--speed", type=_speed, default=10.0, metavar="X", help=text)


def _replan(parser: Parser) -> None:
    text = "replace the rest of the plan while the run goes on: by itself, when you accept it, or never (default auto)"
    parser.add_argument("--replan", choices=("auto", "ask", "off"), default="auto", help=text)
    text = (
        "how long --replan ask waits for your answer, on the run's clock, before the plan stays (default 60)"
    )
    parser.add_argument("--replan-wait", type=_wait, default=60.0, metavar="SECONDS", help=text)


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 600 seconds")
    return value


def _wait(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a time above 0 seconds")
    return value


def _quantile(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _speed(text: str) -> float:
    value = math.inf if text == "max" else float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is neither 'max' nor a positive number")
    return value


def _console_verbs(verbs: Verbs[Parser]) -> None:
    parser = _add(verbs, "open", "console", "opens the console: the library, or an application")
    parser.add_argument("application", type=Path, nargs="?", metavar="APP")
    _machine(parser)
    _planning(parser)
    _pace(parser)
    _read_only(parser)
    _mouse(parser)
    parser = _add(verbs, "attach", "console", "the console on a run")
    parser.add_argument("run", nargs="?", metavar="RUN", help="default: the latest")
    _read_only(parser)
    _mouse(parser)
    parser = _add(verbs, "replay", "console", "the console on a recording: a run's name, folder or journal")
    parser.add_argument("recording", metavar="RECORDING")
    parser.add_argument("--headless", action="store_true", help="without a terminal")
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="X", help="times the recorded pace, or max"
    )
    _mouse(parser)
    _json(parser)


def _read_only(parser: Parser) -> None:
    parser.add_argument("--read-only", action="store_true", help="look only: no run is started or changed")


def _mouse(parser: Parser) -> None:
    parser.add_argument(
        "--mouse", action="store_true", help="wheel and clicks work; the terminal's own selection needs shift"
    )


def _application_verbs(verbs: Verbs[Parser]) -> None:
    parser = _add(
        verbs, "check", "applications", "validates an application and its data; lists every mistake"
    )
    _application(parser)
    _json(parser)
    _lengths_verb(verbs)
    parser = _add(verbs, "plan", "applications", "candidate plans, ranked by simulated makespan")
    _application(parser)
    _machine(parser)
    _planning(parser)
    _what_if(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="PLAN.json", help="write one plan")
    parser.add_argument("--rank", type=_positive, default=1, help="which one to write (default: the best)")
    _json(parser)


def _lengths_verb(verbs: Verbs[Parser]) -> None:
    parser = _add(verbs, "lengths", "lengths", "the distribution of each LLM's output lengths")
    parser.add_argument("application", type=Path, nargs="?", metavar="APP", help="an application file (TOML)")
    parser.add_argument("--allow-outside", action="store_true", help="let data files lie outside its folder")
    text = "a run (its name, folder or recording), or a JSONL or CSV file with output_tokens in each row"
    parser.add_argument("--learn", metavar="RUN|FILE", help=f"learn from {text}; with APP: blend it in")
    keep = 'keep what was learnt under this name, for `lengths = "NAME"` in an application'
    parser.add_argument("--as", dest="name", metavar="NAME", help=keep)
    _json(parser)


def _measurement_verbs(verbs: Verbs[Parser]) -> None:
    parser = _add(verbs, "simulate", "measurements", "one engine serving one list of requests (simulated)")
    parser.add_argument("requests_file", type=Path, metavar="REQUESTS.csv")
    parser.add_argument("--latency", type=Path, required=True, metavar="PROFILE.json")
    for name in ("max-num-seqs", "max-num-batched-tokens", "kv-blocks", "block-size", "max-model-len"):
        parser.add_argument(f"--{name}", type=_positive, metavar="N", help="default: the profile's")
    text = "schedule a step before the tokens of the last one are known (vLLM on GPUs); column max_tokens"
    parser.add_argument("--async-scheduling", action="store_true", help=text)
    text = (
        "find common beginnings computed; columns prefix (one number for all that begin alike), prefix_tokens"
    )
    parser.add_argument("--prefix-caching", action="store_true", help=text)
    text = "priority: the lowest number of the column priority first"
    parser.add_argument("--scheduling-policy", choices=POLICIES, default="fcfs", help=text)
    parser.add_argument("--iterations", type=Path, metavar="OUT.csv", help="write what every step did")
    parser.add_argument(
        "--requests", type=Path, metavar="OUT.csv", help="write when every request was served"
    )
    _json(parser)
    parser = _add(verbs, "fit-latency", "measurements", "fits the iteration model to measured iterations")
    parser.add_argument("iterations_file", type=Path, metavar="ITERATIONS.csv")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PROFILE.json")
    parser.add_argument("--experts", type=_whole, default=0, help="of a mixture of experts")
    parser.add_argument("--experts-per-token", type=_whole, default=0)
    parser.add_argument("--seed", type=_whole, default=0, metavar="N", help="of the rows kept out of the fit")
    _json(parser)


def _profile_verb(verbs: Verbs[Parser]) -> None:
    parser = _add(
        verbs, "profile", "profiling", "measures a real engine: iteration latency, start time, KV blocks"
    )
    text = "tiny:llama, a folder, or a Hugging Face id that is on this machine"
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help=text)
    text = "measure memory bandwidth and arithmetic rates instead"
    parser.add_argument("--hardware", action="store_true", help=text)
    parser.add_argument("--cluster", metavar="NAME|FILE", help="default: this machine's GPUs, else cpu:2")
    parser.add_argument("--tp", type=_positive, default=1, metavar="N", help="GPUs of one engine (default 1)")
    text = "further engines that start and work at the same time (default: 1 on a CPU with two slots, else 0)"
    parser.add_argument("--beside", type=_whole, metavar="N", help=text)
    text = "of load to measure steps under (default 45)"
    parser.add_argument("--seconds", type=_seconds, default=45.0, metavar="S", help=text)
    parser.add_argument("--context", type=_positive, metavar="N", help="default: the checkpoint's")
    for name in ("max-num-seqs", "max-num-batched-tokens"):
        parser.add_argument(f"--{name}", type=_positive, metavar="N", help="default: the engine's")
    text = (
        "a further engine argument, as an application gives it, such as load_format=dummy (may be repeated)"
    )
    parser.add_argument("--argument", action="append", default=[], metavar="NAME=VALUE", help=text)
    text = "how often to start the engines (default 2, once where that would take over three minutes)"
    parser.add_argument("--starts", type=_positive, metavar="N", help=text)
    parser.add_argument("--seed", type=_whole, default=0, metavar="N", help="of everything drawn (default 0)")
    text = "also write it here (default: only where forecasts look for it)"
    parser.add_argument("-o", "--output", type=Path, metavar="PROFILE.json", help=text)
    parser.add_argument("--iterations", type=Path, metavar="OUT.csv", help="write every step measured")
    _json(parser)


def _run_verbs(verbs: Verbs[Parser]) -> None:
    parser = _add(verbs, "run", "runs", "plans, asks for approval, runs")
    _application(parser)
    _machine(parser)
    _planning(parser)
    parser.add_argument("--plan", type=Path, metavar="PLAN.json", help="run this plan")
    _pace(parser)
    _replan(parser)
    parser.add_argument("--yes", action="store_true", help="approve the best plan")
    parser.add_argument("--detach", action="store_true", help="return at once; the run goes on")
    _json(parser)
    parser = _add(verbs, "runs", "runs", "the runs of this machine with an honest state")
    _json(parser)
    for name, text in (("stop", "drains a run and stops it"), ("resume", "goes on where a run stopped")):
        parser = _add(verbs, name, "runs", text)
        parser.add_argument("run", metavar="RUN")
        _json(parser)
    parser = _add(verbs, "export", "runs", "the outputs of a run, one JSON object a line")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.jsonl")
    parser.add_argument(
        "--batch", metavar="NODE", help="of this node only, as the lines of an OpenAI batch's result"
    )
    _json(parser)


def _doctor_verb(verbs: Verbs[Parser]) -> None:
    parser = _add(verbs, "doctor", "doctor", "what this machine has, what is missing and how to get it")
    parser.add_argument(
        "--run", action="store_true", help="prove it: run apps/selftest.toml on the real engine"
    )
    _json(parser)
