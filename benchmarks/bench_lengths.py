"""Output lengths: held-out error of every way to estimate them, which sets depend on their prompts, time of a draw.

The error is the continuous ranked probability score (twice the mean pinball loss over all quantiles) of answers kept
out, in tokens; ratios are to the pooled empirical distribution of the same answers. Below 1 is better.
"""

from __future__ import annotations

import csv
import gzip
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.table import print_table
from samullm_tui.domain.application import LLM
from samullm_tui.forecast.lengths import lengths_of
from samullm_tui.lengths.answers import Answers
from samullm_tui.lengths.blend import STRENGTH, blend
from samullm_tui.lengths.conditional import Dependence, by_prompt, dependence
from samullm_tui.lengths.distribution import LengthDistribution, from_samples
from samullm_tui.lengths.families import FAMILIES, FamilyFit, fit_families
from samullm_tui.lengths.residual import residual_mean, sample_residual
from samullm_tui.lengths.survival import continue_tail, kaplan_meier

MEASURED = Path(__file__).resolve().parents[2] / "shared" / "data" / "lengths"
CONVERSATIONS = {
    "ShareGPT": ("sharegpt_val_10k_llama2.csv.gz", "num_prefill_tokens", "num_decode_tokens"),
    "Azure": ("azure_llm_2023_conv.csv.gz", "ContextTokens", "GeneratedTokens"),
    "Mooncake": ("mooncake_conversation.csv.gz", "input_length", "output_length"),
}
ALPACA = "alpaca_eval_lengths_400prompts_15models.csv"
PRIORS = {
    "vicuna-13b-v1.5": "vicuna-13b-v1.5",
    "oasst-sft-pythia-12b": "oasst-sft-4-pythia-12b-epoch-3.5",
    "baize-v2-13b": "baize-v2-13b",
    "llama-2-7b-chat-hf": "Llama-2-7b-chat-hf",
    "llama-2-70b-chat-hf": "Llama-2-70b-chat-hf",
    "Mixtral-8x7B-Instruct-v0.1": "Mixtral-8x7B-Instruct-v0.1",
    "Mistral-7B-Instruct-v0.2": "Mistral-7B-Instruct-v0.2",
}
"""Table of the same LLM on other prompts (no_robots); the other sets have the pool of all tables as their prior."""
OBSERVED, REPEATS = (20, 200, 2000), 20
LONGEST = 8192
DRAWS = 1_000_000

Curve = npt.NDArray[np.float64]


def main() -> None:
    if not MEASURED.is_dir():
        print(f"bench_lengths: the measured data are not at {MEASURED}")
        return
    sets = measured_sets()
    estimators_table(sets)
    strength_table(sets)
    dependence_table(sets)
    censoring_table(sets)
    times_table(sets["ShareGPT"])


def measured_sets() -> dict[str, Answers]:
    """Prompt and output tokens of every set; alpaca_eval has one for each LLM, named "alpaca_eval: LLM"."""
    sets: dict[str, Answers] = {}
    for name, (file, prompt, output) in CONVERSATIONS.items():
        with gzip.open(MEASURED / file, "rt") as stream:
            rows = list(csv.DictReader(stream))
        sets[name] = _answers([(row[prompt], row[output]) for row in rows])
    with (MEASURED / ALPACA).open() as stream:
        rows = list(csv.DictReader(stream))
    for llm in list(rows[0])[3:]:
        sets[f"alpaca_eval: {llm}"] = _answers([(row["prompt_tokens"], row[llm]) for row in rows if row[llm]])
    return sets


def _answers(rows: list[tuple[str, str]]) -> Answers:
    prompts, outputs = np.array(rows, dtype=np.float64).T
    return Answers.of(outputs, True, prompts)


def prior_of(name: str) -> LengthDistribution:
    table = PRIORS.get(name.partition(": ")[2], "nobody")
    return lengths_of(LLM(name="", checkpoint="", lengths=table)).distribution


def crps(curve: Curve, answers: Answers) -> float:
    """Mean over the answers of the integral of (F(x) - [answer <= x])^2, over whole lengths."""
    truth = from_samples("", answers.tokens, source="").cdf(np.arange(LONGEST))
    return float(((curve - truth) ** 2 + truth * (1 - truth)).sum())


def error(distribution: LengthDistribution, answers: Answers) -> float:
    """CRPS of the stratum of each answer's prompt."""
    x = np.arange(LONGEST)
    parts = distribution.given(answers.prompt_tokens)
    chosen = [np.isin(np.arange(len(answers)), index) for _, index in parts]
    scores = [
        crps(part.cdf(x), answers.where(those)) * those.sum()
        for (part, _), those in zip(parts, chosen, strict=True)
    ]
    return sum(scores) / len(answers)


def splits(answers: Answers, n: int, seed: int) -> tuple[Answers, Answers]:
    """`n` of the answers, and the others."""
    chosen = np.random.default_rng(seed).permutation(len(answers)) < n
    return answers.where(chosen), answers.where(~chosen)


def group(name: str) -> str:
    return "alpaca_eval (15 LLMs)" if name.startswith("alpaca") else name


# Tables


def estimators_table(sets: Mapping[str, Answers]) -> None:
    ratios: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, answers in sets.items():
        prior = prior_of(name)
        for n in OBSERVED:
            for seed in range(REPEATS if len(answers) - n >= 100 else 0):
                seen, kept_out = splits(answers, n, seed)
                errors = _errors(seen, kept_out, prior)
                for estimator, value in errors.items():
                    of = 1.0 if estimator == "empirical" else errors["empirical"]
                    ratios[group(name), n][estimator].append(value / of)
    estimators = ("empirical", "prior", *FAMILIES, "blended", "conditional", "learnt")
    rows = [
        (name, f"{n:,}", *(f"{np.mean(found[e]):.{1 if e == 'empirical' else 3}f}" for e in estimators))
        for (name, n), found in ratios.items()
    ]
    header = ("set", "observed", "empirical (tokens)", *estimators[1:])
    print_table(f"held-out CRPS over the empirical one's, mean of {REPEATS} splits", header, rows)


def _errors(seen: Answers, kept_out: Answers, prior: LengthDistribution) -> dict[str, float]:
    x = np.arange(LONGEST)
    empirical = from_samples("", seen.tokens, source="")
    found = dependence(seen)
    blended = blend(prior, seen, source="")
    fits: dict[str, FamilyFit] = {fit.name: fit for fit in fit_families(empirical)}
    return {
        "empirical": error(empirical, kept_out),
        "prior": error(prior, kept_out),
        **{name: crps(fits[name].cdf(x + 0.5), kept_out) for name in FAMILIES},
        "blended": error(blended, kept_out),
        "conditional": error(by_prompt(empirical, seen, found), kept_out),
        "learnt": error(by_prompt(blended, seen, found), kept_out),
    }


def strength_table(sets: Mapping[str, Answers]) -> None:
    """The strength of a prior: what `blend.STRENGTH` was chosen by."""
    strengths = (5, 10, 20, 50, 100, 300)
    ratios: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for name, answers in sets.items():
        prior = prior_of(name)
        for n in (20, 100):
            for seed in range(REPEATS):
                seen, kept_out = splits(answers, n, seed)
                of = error(from_samples("", seen.tokens, source=""), kept_out)
                tried = [(s, True) for s in strengths] + [(int(STRENGTH), False)]
                blends = [blend(prior, seen, source="", strength=s, shift=shift) for s, shift in tried]
                ratios[group(name), n].append([error(one, kept_out) / of for one in blends])
    rows = [
        (name, str(n), *(f"{value:.3f}" for value in np.mean(found, axis=0)))
        for (name, n), found in ratios.items()
    ]
    header = ("set", "observed", *(f"prior as {s}" for s in strengths), f"as {STRENGTH:.0f}, no shift")
    print_table(
        "held-out CRPS of a blend over the empirical one's, by the strength of the prior", header, rows
    )


def dependence_table(sets: Mapping[str, Answers]) -> None:
    from scipy import stats

    rows = []
    for name, answers in sets.items():
        half, kept_out = splits(answers, len(answers) // 2, 0)
        found, pooled = dependence(half), kaplan_meier("", half, source="")
        rho = stats.spearmanr(half.prompt_tokens, half.tokens).statistic
        forced = Dependence(found.answers, found.strata, 1.0, 0.0, found.edges)
        ratio = error(by_prompt(pooled, half, forced), kept_out) / error(pooled, kept_out)
        figures = (f"{rho:+.3f}", f"{100 * found.effect:.1f} %", f"{found.p_value:.0e}")
        rows.append(
            (
                name,
                f"{len(half):,}",
                str(found.strata),
                *figures,
                "yes" if found.found else "no",
                f"{ratio:.3f}",
            )
        )
    header = ("set", "answers", "strata", "Spearman", "effect", "p", "depends", "CRPS by prompt / pooled")
    print_table(
        "whether prompts matter: tested on one half, the strata (used or not) judged on the other",
        header,
        rows,
    )


def censoring_table(sets: Mapping[str, Answers]) -> None:
    """2,000 answers cut at random (an exponential limit), or all at the same max_tokens (their p60, their p30)."""
    rows = []
    for name in CONVERSATIONS:
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for seed in range(REPEATS):
            whole, kept_out = splits(sets[name], 2000, seed)
            of = error(from_samples("", whole.tokens, source=""), kept_out)
            for how, limit in _limits(whole, seed).items():
                cut = Answers.of(np.minimum(whole.tokens, limit).astype(int), whole.tokens <= limit)
                estimates = _of_cut(cut, prior_of(name)).items()
                errors = {estimate: error(one, kept_out) / of for estimate, one in estimates}
                found[how].append({"share": cut.censored_share, **errors})
        for how, tried in found.items():
            means = {key: float(np.mean([one[key] for one in tried])) for key in tried[0]}
            share = means.pop("share")
            rows.append((name, how, f"{100 * share:.0f} %", *(f"{value:.3f}" for value in means.values())))
    title = f"2,000 answers of which some are cut: held-out CRPS over that of the same whole, mean of {REPEATS} splits"
    print_table(title, ("set", "cut", "share", *means), rows)


def _limits(whole: Answers, seed: int) -> dict[str, Curve]:
    rng = np.random.default_rng(seed)
    return {
        "at random": np.ceil(rng.exponential(2 * whole.tokens.mean(), len(whole))),
        "at their p60": np.full(len(whole), np.quantile(whole.tokens, 0.6, method="lower"), dtype=np.float64),
        "at their p30": np.full(len(whole), np.quantile(whole.tokens, 0.3, method="lower"), dtype=np.float64),
    }


def _of_cut(cut: Answers, prior: LengthDistribution) -> dict[str, LengthDistribution]:
    measured = kaplan_meier("", cut, source="")
    return {
        "taken as ended": from_samples("", cut.tokens, source=""),
        "only those that ended": kaplan_meier("", cut.where(cut.ended), source=""),
        "Kaplan-Meier": measured,
        "and the tail continued": continue_tail(measured),
        "and blended": blend(prior, cut, source=""),
    }


def times_table(answers: Answers) -> None:
    table = from_samples("", answers.tokens, source="")
    rng = np.random.default_rng(0)
    produced = table.sample(DRAWS, rng) // 2
    cut = Answers.of(np.minimum(answers.tokens, 400), answers.tokens <= 400)
    prior = prior_of("ShareGPT")
    works: dict[str, Callable[[], object]] = {
        "1M draws, one choice of the samples each": lambda: rng.choice(answers.tokens, DRAWS),
        "1M draws from the table": lambda: table.sample(DRAWS, rng),
        "1M residual draws": lambda: sample_residual(table, produced, rng),
        "1M residual means": lambda: residual_mean(table, produced),
        "Kaplan-Meier, 10,000 answers": lambda: kaplan_meier("", cut, source=""),
        "and its tail": lambda: continue_tail(kaplan_meier("", cut, source="")),
        "blend, 10,000 answers": lambda: blend(prior, cut, source=""),
        "test of the prompts": lambda: dependence(answers),
    }
    times = {name: min(_seconds(work) for _ in range(3)) for name, work in works.items()}
    of = next(iter(times.values()))
    rows = [(name, f"{1000 * t:.1f}", f"{t / of:.2f}x") for name, t in times.items()]
    print_table("time", ("work", "ms", "of the first"), rows)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
