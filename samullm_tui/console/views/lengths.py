"""How long the answers of one LLM are likely to be."""

from __future__ import annotations

from msgspec import Struct

from samullm_tui.console.layout.cdf import Curve, cdf_lines
from samullm_tui.console.layout.gantt import Mark
from samullm_tui.console.layout.histogram import histogram_lines
from samullm_tui.console.layout.numbers import count, plural, signed_percent
from samullm_tui.console.layout.text import Line, columns, heading, pad_line, styled, wrap
from samullm_tui.domain.length_report import Family, LLMLengths, SeenLengths

__all__ = ["LengthsView", "lengths_body"]

TALLEST = 20
"""Charts higher than this say nothing more."""

HIGH = 34
"""A run's lengths leave out the families below this: the curves matter more."""


class LengthsView(Struct, frozen=True):
    """One LLM's report, and how to draw it. `family` names the fitted curve to draw.

    `seen` is what a run showed of it; with `draw_seen` its curve is drawn instead of the family's. `simulated`: by
    simulated engines.
    """

    llm: LLMLengths
    mark: Mark
    family: str
    log: bool = False
    seen: SeenLengths | None = None
    draw_seen: bool = False
    simulated: bool = False


def lengths_body(view: LengthsView, width: int, height: int) -> list[Line]:
    """Charts, figures, families: as high as there is room."""
    inner = width - 2
    families = [[], *_families(view)] if view.seen is None or height >= HIGH else []
    below = [[], *_seen(view, inner), _figures(view, inner), *families, *_words(view.llm, inner)]
    charts = max(6, min(TALLEST, height - len(below)))
    lines = [*_charts(view, inner, charts), *below]
    return [[(" ", ""), *line] for line in lines[:height]]


def _charts(view: LengthsView, width: int, height: int) -> list[Line]:
    left = (width - 3) // 2
    right = width - left - 3
    llm, style = view.llm, view.mark.text_style
    scale = "log scale" if view.log else ""
    bars = [
        heading("Output tokens", left, scale),
        *histogram_lines(llm.histogram_edges, llm.histogram, left, height - 1, style, log=view.log),
    ]
    curves = [Curve(llm.cdf_tokens, llm.cdf, style)]
    if view.seen is not None and view.seen.cdf and view.draw_seen:
        other = "this run"
        curves.insert(0, Curve(llm.cdf_tokens, view.seen.cdf, "accent", dotted=True))
    else:
        other = view.family
        fitted = [family.cdf for family in llm.families if family.name == view.family and family.cdf]
        curves += [Curve(llm.cdf_tokens, cdf, "accent", dotted=True) for cdf in fitted]
    legend = f"━ {llm.kind}  ┄ {other}" if len(curves) > 1 else f"━ {llm.kind}"
    plot = [heading("Share below", right, legend), *cdf_lines(curves, right, height - 1, log=view.log)]
    return [columns([(a, left), ([], 3), (b, right)]) for a, b in zip(bars, plot, strict=True)]


def _seen(view: LengthsView, width: int) -> list[Line]:
    """The run's answers so far against what was expected, and whether that is another distribution."""
    seen = view.seen
    if seen is None:
        return []
    counts = [f"{seen.answers:,} of {plural(seen.requests, 'answer')}"]
    counts += [f"{seen.running:,} running"] if seen.running else []
    lines: list[Line] = [[(f"this run  {', '.join(counts)}", "bold")]]
    lines[0].append(("   drawn by simulated engines" if view.simulated else "", "dim"))
    if not seen.answers:
        return [*lines, []]
    if seen.judged:
        share = signed_percent(seen.judged_mean / seen.expected_mean - 1) if seen.expected_mean else "–"
        lines.append(
            [
                ("mean ", "dim"),
                (count(seen.judged_mean), "bold"),
                (f" ({share})", "bold"),
                ("   p50 ", "dim"),
                (count(seen.p50), ""),
                ("   p90 ", "dim"),
                (count(seen.p90), ""),
                ("   longest ", "dim"),
                (count(seen.max), ""),
                ("   drift: ", "dim"),
                _drift(seen),
            ]
        )
    if seen.judged < seen.answers:
        why = f"compared: the {seen.judged:,} sent so long ago that those sent with them have ended too"
        lines.append([(why, "dim")])
    return [*[pad_line(line, width) for line in lines], []]


def _drift(seen: SeenLengths) -> tuple[str, str]:
    if seen.drift is None or seen.ks is None:
        return "too few to say", "dim"
    return (f"yes, KS {seen.ks:.2f}", "warning bold") if seen.drift else (f"no, KS {seen.ks:.2f}", "good")


def _figures(view: LengthsView, width: int) -> Line:
    llm = view.llm
    pairs = (
        ("mean", count(llm.mean)),
        ("p50", count(llm.p50)),
        ("p90", count(llm.p90)),
        ("p99", count(llm.p99)),
        ("longest", count(llm.max)),
        ("cut short", f"{100 * llm.censored_share:.1f} %"),
    )
    line: Line = [("expected  ", "")] if view.seen is not None else []
    for name, value in pairs[: 5 if view.seen is not None else None]:
        line += [(f"{name} ", "dim"), (value, "bold"), ("   ", "")]
    return pad_line(line[:-1], width)


def _families(view: LengthsView) -> list[Line]:
    families = view.llm.families
    lines: list[Line] = [[(f"  {'family':<13}{'KS':>7}{'AIC':>11}{'p99':>8}", "dim")]]
    lines.append(
        [
            (f"  {view.llm.kind:<13}{'–':>7}{'–':>11}{count(view.llm.p99):>8}", ""),
            ("   for planning", "dim"),
        ]
    )
    best = min(families, key=lambda family: family.aic, default=None)
    return [*lines, *(_family(family, best, drawn=family.name == view.family) for family in families)]


def _family(family: Family, best: Family | None, *, drawn: bool) -> Line:
    line: Line = [
        ("▸ " if drawn else "  ", "accent"),
        (f"{family.name:<13}{family.ks:>7.3f}{family.aic:>11,.0f}{count(family.p99):>8}", ""),
        ("   best fit" if family is best else "", "good"),
    ]
    return styled(pad_line(line, 54), "cursor") if drawn else line


def _words(llm: LLMLengths, width: int) -> list[Line]:
    """Why this curve, whether prompts matter, and where it comes from; what matters most first."""
    said = ((f"≈ {llm.estimated}" if llm.estimated else "", "warning"), (llm.why, ""), (_prompts(llm), "dim"))
    source = "" if llm.estimated.endswith(llm.source) else llm.source
    lines: list[Line] = []
    for text, style in (*said, (source, "dim")):
        lines += [[(line, style)] for line in wrap(text, width) if text]
    return [[], *lines]


def _prompts(llm: LLMLengths) -> str:
    if not llm.strata:
        return llm.prompts
    medians = (
        f"≤{count(s.prompt_tokens)} {count(s.p50)}"
        if s.prompt_tokens is not None
        else f"longer {count(s.p50)}"
        for s in llm.strata
    )
    return f"{llm.prompts}; p50 by prompt: {' · '.join(medians)}"
