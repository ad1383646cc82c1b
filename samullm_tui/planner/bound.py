"""A makespan that no plan can beat.

Claim: for fixed output lengths every valid plan (`planner.validity`) takes at least `lower_bound(problem, output_tokens)`
in the simulator: whatever runs when, on which GPUs, kept, stopped, moved or loaded again.

Notation. A request has p prompt tokens (upstream outputs included) and o output tokens. A step of an engine of shape s
(tp GPUs) with S sequences, T tokens of which D are decodes, and decode context C takes at least

    ps·S + pt·T + pc·(prefill context) + dc·C + h(T),   h(T) = constant + Σ above_b·max(0, T − b) + pe·E(T),

all coefficients ≥ 0; where the latency model counts tiles they are part of h(T), and stalls, in proportion to S², add at
least any tangent, 2·S₀·S − S₀²; its other terms are left out. S ≤ max_num_seqs, T ≤ B = max_num_batched_tokens, and the sequences of a step hold H ≤ K tokens'
places in the KV cache, whole blocks. M is the makespan, N the GPUs. "LLM" means one with requests; there are L of them.

**Stages.** An LLM has one tp in a stage. A stage that takes place ends with at least one LLM finished, so at most L − 1
end before M. A step cut by a stage's end is finished: it may overlap what starts then. Two consequences. (a) Along a
path of requests each end saves at most one step as it is counted here, a prefill only once for each request on it:
together `early_s`. (b) No step is longer than
`over_s` (every count at its limit), and no more than that counts twice on a GPU at one end.

**Work** (`bound_charges`). Each output token needs a step in which its request has a slot: the end of the prefill of its
prompt; a decode at context ≥ x = p + j − 1 (token j + 1); or, after a preemption or a move, the end of a recomputation
of p + j ≥ x + 1 tokens in one engine. The prefill context of a prompt is p·(p + 1)/2 however it is cut. The constants of
a step are charged to what is in it, in one of these ways, each of them valid:
- h(T) ≥ a + b·T for all T ≤ B; or, prompts apart, h(T) ≥ a + b·D + Σ_b above_b·(max(0, T − b) − max(0, D − b)) for all
  D ≤ max_num_seqs. The last sum is at least the prompt tokens of the step times above_b·max(0, 1 − b/T). A prompt is cut
  only where the budget is used up, T = B; its last piece c has T ≥ c; so a prompt of p tokens is charged at least
  above_b·(1 − b/B)·max(0, p − b) in all. (A recomputation must not cost less than the decode that it stands for: b is at
  most the shortest prompt times (pt − dc).)
- a is shared by the slots (1 ≥ S / the most that can run at a time: max_num_seqs, or the number of paths that cover the
  LLM's requests), or by the places held (1 ≥ H/K), or it is counted once for each step of the longest path of requests
  of the LLM that wait for each other, no two of whose tokens share a step.
With κ = min(dc, pt) a decode and a recomputation alike charge at least slot + token + κ·x + places held at x + 1. All of
this is linear in what the requests need. `work_gpu_s` is tp times the dearest such charge of one shape. For an LLM
computed in several shapes each token is charged the least over the shapes, a concave function of x, whose mean over
equally spaced x is at least that of its values at both ends: `mixed_gpu_s`.

**Prefix caches** (`bound_prefixes`). Of a prompt only s tokens can be found: whole blocks of what it shares with others,
never its last token. So p − s are charged, with their contexts and places, and once for each group that shares a prefix
its longest one: whoever has it last found, in the same engine, what one of them computed there. Own blocks are nobody
else's, so places still add up to K at most. A decode or a recomputation charges κ·(x − s): one after a move finds s tokens
at most. One after a preemption (a resumption) may find its own blocks too, and is only sure to compute a token. Where all
that can run at a time have room at once, nothing is ever preempted. Else, first come first served, what resumptions save is
bounded (`resumed_tokens`). Say that Y was preempted, as no block was free, and resumes. Requests preempted after Y stand
before it in the queue, all that runs grows, and a block more was taken: so one of those that ran has finished meanwhile, or
was dealt away while it waited. Between two such ends no request is resumed that was preempted between them, and none
after one was preempted; so the resumed ones' own blocks all fit into what was free. That grows by the blocks of who
finishes, and by a preemption to no more than the largest request has; thus all resumed requests together have at most
Σ blocks + (ends) · (most blocks of one) own blocks. By priority the order of the queue is another: κ ≤ pc then, as a
resumption's context costs pc·(x + 1) at least. On a path κ ≤ pc always, where requests can be preempted.

**Asynchronous scheduling.** What has stopped may take a slot more in a step, for nothing: a step costs no less for it.
Only `over_s` must count it.

**Starts** (`Demand.area`). An engine computes for at most M + over_s − load_s, so an LLM with work W in one shape is
started at least ⌈W / (tp·(M + over_s − load_s))⌉ times; in several shapes at least once in two of them, and its loads are
at least W times the least load_s / (M + over_s − load_s). An LLM that takes nothing from others and is started once runs
from its load to its end on one engine, all its requests ready: its steps are those of the simulator, waste and all
(`once_gpu_s`: a stage's end changes nothing for an engine that goes on with its requests, which is written down with
what is leaving it and with its prefix cache). So the area of an LLM, its work and loads in GPU-seconds, is known for
each M, and falls with M.

**Area** (`fit`). A GPU's time is not shared except by (b), and only where a start follows another on that GPU: such a
start costs its load less over_s, the first on each GPU all of it. A GPU without a start idles for M. Hence for every λ from
over_s to the shortest load, if λ ≤ M,

    N·M ≥ Σ area with every load λ shorter + N·λ.

Where loads are shorter than over_s, M is taken `lost_s` longer: per GPU over_s less the shortest load for each stage.
The same holds for the LLMs of at least some tp and the GPUs on which groups of that tp can run at a time.

**Sharing** (`bound_sharing`). Join an LLM and a GPU where one is started on the other. A connected group of k LLMs and g
GPUs has at least k + g − 1 such pairs, each with a load. So g·M ≥ Σ area with loads λ shorter + λ·(k + g − 1) −
over_s·(k − 1), λ the group's shortest load, and the groups' GPUs are N at most: the best way to form groups is found by
trying all.

**Critical path** (`bound_path`). A request starts no earlier than its parents finish, and takes at least its prefill
(⌈p/B⌉ steps) and o − 1 steps alone in an engine. Follow, from a request back, its latest parent of the same LLM: either
this whole path is computed in one shape, after that shape's load; or the LLM changed shape on the way, and between two
stages with different tp all its engines are loaded anew: the best shape for every step, and one more load. The least of
these is a bound, up to `early_s`. LLMs of which no two fit on the GPUs together are never in one stage: what each takes by
itself adds up (`_one_after_another`).

**A sole source** (`bound_source`). If one LLM takes nothing from others and each of its requests leads to requests of
every other LLM, then no other LLM finishes before it, the first stage that takes place has it, and no stage ends before it
has finished. So it runs from time 0 in one (tp, dp), and the simulator says when each of its requests finishes. For each
of its sizes the rest is bounded as above, with these finishes known, with its GPUs held until its end, and with what
cannot begin before a time t: the others have the GPUs beside it from max(t, load) on, and its own GPUs from its end and
one load on. The least over its sizes is a bound.
"""

from __future__ import annotations

import numpy as np

from samullm_tui.domain.request import IntArray
from samullm_tui.planner.bound_area import first_that, fit, share
from samullm_tui.planner.bound_needs import Needs, needs_of
from samullm_tui.planner.bound_path import own_paths
from samullm_tui.planner.bound_source import after_source
from samullm_tui.planner.bound_tokens import upstream_tokens
from samullm_tui.planner.shapes import pack, smallest
from samullm_tui.simulate.application import Problem

__all__ = ["lower_bound", "upstream_tokens"]

ROUNDING = 1e-9
"""Share by which the bound is lowered, so that sums in another order cannot fall below it."""


def lower_bound(problem: Problem, output_tokens: IntArray) -> float:
    """Seconds. See the module's text for the proof."""
    if len(problem.table) == 0:
        return 0.0
    needs = needs_of(problem, output_tokens)
    path_s = float(needs.finishes(problem.table).max())
    least_s = max(path_s, _one_after_another(problem, needs)) - needs.early_s
    least_s = max(least_s, _enough(problem, needs, least_s))
    return (1 - ROUNDING) * after_source(problem, output_tokens, needs, least_s)


def _one_after_another(problem: Problem, needs: Needs) -> float:
    """The most seconds that LLMs of which no two fit on the GPUs together must run one after another."""
    own_s = own_paths(problem.table, np.column_stack([needs.alone_s, needs.best_s]))
    most = {}
    for llm, demand in needs.demands.items():
        least = min(demand.load_s)
        on_one = min(own_s[llm, : len(demand.load_s)] + demand.load_s)
        share_s = demand.mixed_gpu_s / problem.gpus - (len(needs.demands) - 1) * needs.over_s
        most[llm] = max(least + share_s, min(on_one, 2 * least + own_s[llm, -1]))
    smalls = {llm: smallest(problem.llms[llm], problem) for llm in most}
    chosen: list[int] = []
    for llm in sorted(most, key=lambda llm: (-smalls[llm].gpus, -most[llm])):
        if all(
            pack(problem, {problem.llms[k].name: smalls[k] for k in (llm, other)}) is None for other in chosen
        ):
            chosen.append(llm)
    return float(sum(most[llm] for llm in chosen))


def _enough(problem: Problem, needs: Needs, least_s: float) -> float:
    """The first time at which everything that the LLMs need fits on the GPUs; not looked for before `least_s`."""
    demands = tuple(needs.demands.values())
    groups = []
    for tp in sorted({min(demand.tp) for demand in demands}):
        room = sum(len(island) // tp * tp for island in problem.islands)
        groups.append((room, [demand for demand in demands if min(demand.tp) >= tp]))

    def fits(makespan_s: float) -> bool:
        areas = all(fit(some, room, makespan_s, needs.over_s) for room, some in groups)
        return areas and share(demands, problem.gpus, makespan_s, needs.over_s)

    return first_that(fits, least_s + needs.lost_s) - needs.lost_s
