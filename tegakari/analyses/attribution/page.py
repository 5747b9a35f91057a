"""An attribution as one self-contained HTML page: nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from tegakari.schemas.attribution import Attribution

SHADE = "255, 150, 50"
"""Colour of a token, RGB; its opacity is the strength relative to the largest one."""

_STYLE = """
body { font: 15px/1.6 system-ui, "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", Meiryo, sans-serif;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 1.2rem; line-height: 2.2; }
.text span { padding: .15em 0; }
.text span.strong { border-bottom: 3px solid #b04a00; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .45rem; text-align: left; white-space: nowrap; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; height: .7em; background: #3566a8; }
p.note { color: #555; }
"""

STRONG = 0.1
"""Share from which a token is underlined as well."""


def page(attribution: Attribution) -> str:
    """The text with its tokens shaded by strength, the features with what their ablation costs, and the control."""
    title = f"Why {attribution.label}? {attribution.settings.document or 'text'} of {attribution.run}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(summary(attribution))}</p>",
        f'<div class="text">{shaded_text(attribution)}</div>',
        '<p class="note">A token is the darker, the more margin the features lose that rise on it.</p>',
        "<h2>Features, each ablated alone</h2>",
        _features(attribution),
        "<h2>Features ablated together</h2>",
        _steps(attribution),
        f'<p class="note">{escape(control_summary(attribution))}</p>',
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )


def summary(attribution: Attribution) -> str:
    """Label, logit and margin in a sentence, and whether the set ablated changes the prediction."""
    logits = {score.label: score for score in attribution.labels}
    label = logits[attribution.label]
    predicted = (
        "predicted" if attribution.label == attribution.predicted else f"not predicted ({attribution.predicted} is)"
    )
    return (
        f"{label.label} is {predicted}: logit {label.logit:.2f}, {attribution.margin:+.2f} over {attribution.runner_up}"
        f" ({logits[attribution.runner_up].logit:.2f}); {attribution.active_features:,} features of layers "
        f"{', '.join(map(str, attribution.settings.layers or []))} are active"
    )


def control_summary(attribution: Attribution) -> str:
    """What the control loses beside the features, in a sentence."""
    control = attribution.control
    if control is None:
        return "no control: no feature of the set, no draws, or too few other active features"
    together = attribution.margin - attribution.steps[-1].margin
    return (
        f"margin lost without the first feature: {attribution.margin - attribution.steps[0].margin:.2f}, "
        f"without all {control.k}: {together:.2f}; without other active features ({control.draws} draws, "
        f"seed {control.seed}), one: {control.single_mean:.2f} on average, {max(control.single_lost):.2f} at most, "
        f"{control.k}: {control.set_mean:.2f} on average, {max(control.set_lost):.2f} at most"
    )


def shaded_text(attribution: Attribution) -> str:
    """The text as HTML, each token shaded by its strength relative to the largest one."""
    largest = max((token.strength for token in attribution.tokens), default=0) or 1.0
    parts, end = [], 0
    for token, (start, stop) in zip(attribution.tokens, token_spans(attribution), strict=True):
        parts.append(escape(attribution.text[end:start]))
        end = max(end, stop)
        if start == stop:
            continue
        strong = ' class="strong"' if token.strength >= STRONG else ""
        parts.append(
            f'<span{strong} title="{token.strength:.1%}" style="background:rgba({SHADE}, '
            f'{token.strength / largest:.2f})">{escape(token.token)}</span>'
        )
    return "".join([*parts, escape(attribution.text[end:])])


def token_spans(attribution: Attribution) -> list[tuple[int, int]]:
    """Characters [start, end) of each token in the text; tokens of a part of a character after the first: none."""
    spans, at = [], 0
    for token in attribution.tokens:
        start = attribution.text.find(token.token, at) if token.token else -1
        if start < 0 or not _only_space(attribution.text[at:start]):
            spans.append((at, at))
        else:
            at = start + len(token.token)
            spans.append((start, at))
    return spans


def _only_space(text: str) -> bool:
    return not text or text.isspace()


def _features(attribution: Attribution) -> str:
    largest = max((feature.margin_lost for feature in attribution.features), default=0) or 1.0
    rows = [
        (
            f"{feature.layer}:{feature.feature}",
            escape(feature.onset_token),
            feature.margin_lost,
            f'<span class="bar" style="width:{max(0.0, feature.margin_lost / largest) * 5:.2f}rem"></span>',
            feature.logit_lost,
            escape(feature.best_label or ""),
            escape(" ".join(feature.top_tokens)),
        )
        for feature in attribution.features
    ]
    columns = ("feature", "rises on", "margin lost", "", "logit lost", "label of largest d", "top tokens")
    return _table(columns, rows)


def _steps(attribution: Attribution) -> str:
    rows = [(f"{step.layer}:{step.feature}", step.margin, escape(step.predicted)) for step in attribution.steps]
    return _table(("feature", "margin left", "predicted"), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="number">{cell:.3f}</td>' if isinstance(cell, float) else f"<td>{cell}</td>" for cell in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
