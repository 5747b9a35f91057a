"""Limits of a study: what is skipped or doubtful, a sentence each, for the first section of the report.

A function per kind of limit takes the result and returns its sentences. All of them are in `LIMITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tegakari.analyses.formatting import default_label_sentence, left_out_cosines
from tegakari.analyses.knockout.default_label import default_label
from tegakari.schemas.matching import CUTOFFS
from tegakari.schemas.study import StudyResult

FEW_DOCUMENTS = 40
"""Documents of a label below which its figures are uncertain."""

LOW_EXPLAINED_VARIANCE = 0.6
HIGH_DEAD_SHARE = 0.5
MANY_TRUNCATED = 0.2
"""Share of the documents cut at max_length that is worth a sentence."""

MANY_ELSEWHERE = 0.5
"""Share of the features with a top token of all labels that is worth a sentence."""

NEAR_TIE = 0.9
"""Share of the largest effect of a layer from which another one is nearly tied with it."""

FEW_PAIRS = 0.5
"""Share of the requested pairs of a circuit below which a sentence says so."""

CHANCE_SHARE = 0.25
"""Share of the pairs by correlation that permuted documents give too, from which the count is doubtful."""

Limit = Callable[[StudyResult], Iterator[str]]


def limits_of(result: StudyResult) -> list[str]:
    """The sentences of all limits, in the order of `LIMITS`."""
    return [sentence for limit in LIMITS for sentence in limit(result)]


def one_run_per_model(result: StudyResult) -> Iterator[str]:
    """Intervals over documents do not cover training."""
    if len(result.groups) == 2 and not result.settings.groups:
        (a,), (b,) = result.groups
        yield (
            f"Differences are between these two runs, not between models: {a} and {b} are one training each. Held "
            "fixed: classifier and SAE training seeds, corpus, labels. Other seeds of the same model differ as well; "
            "runs with other seeds (--run A1 --run A2 --against B1 --against B2) give intervals that cover training."
        )
    elif len(result.groups) == 2:
        yield (
            "Intervals of differences cover documents and the seeds by which the replicates of a group differ. Held "
            "fixed: corpus, labels, and every seed that the replicates have in common."
        )


def skipped_parts(result: StudyResult) -> Iterator[str]:
    """Parts that the settings skip."""
    if result.settings.skip:
        yield f"Skipped, as the settings say: {', '.join(result.settings.skip)}."


def missing_circuits(result: StudyResult) -> Iterator[str]:
    """Circuits that could not be computed."""
    if "circuit" not in result.settings.skip:
        for run in result.runs:
            if run.no_circuit:
                yield f"{run.run} has no circuit: {run.no_circuit}."


def circuits_of_few_pairs(result: StudyResult) -> Iterator[str]:
    """Circuits of fewer pairs than requested, which are those of documents that are much alike."""
    for run in result.runs:
        if run.circuit and run.circuit.pairs < FEW_PAIRS * run.circuit.settings.pairs:
            yield (
                f"{run.run}, circuit: {run.circuit.pairs} of {run.circuit.settings.pairs} requested pairs, of "
                f"{run.circuit.pair_documents} documents, have a cosine of at least {run.circuit.settings.min_cosine}: "
                "it is the circuit of these documents, and not comparable to that of other pairs."
            )


def unstable_circuits(result: StudyResult) -> Iterator[str]:
    """Circuits whose mean of ratios hangs on a few pairs."""
    for run in result.runs:
        if run.circuit and run.circuit.warning:
            yield f"{run.run}, circuit: {run.circuit.warning}"


def missing_variants(result: StudyResult) -> Iterator[str]:
    """Written variants that could not be measured."""
    if "variants" not in result.settings.skip:
        for run in result.runs:
            if run.no_variants:
                yield f"{run.run} has no written variants: {run.no_variants}."


def sae_quality(result: StudyResult) -> Iterator[str]:
    """Layers whose SAE reconstructs little, or has many dead features."""
    for run in result.runs:
        low = [sae for sae in run.saes if (sae.explained_variance or 0) < LOW_EXPLAINED_VARIANCE]
        if low:
            variances = ", ".join(
                f"{sae.layer} ({sae.explained_variance:.2f})" if sae.explained_variance is not None else f"{sae.layer}"
                for sae in low
            )
            yield (
                f"{run.run}: the SAEs explain less than {LOW_EXPLAINED_VARIANCE:.0%} of the variance in layer "
                f"{variances}; figures of their features describe a part of the residual."
            )
        dead = [sae for sae in run.saes if sae.dead_share > HIGH_DEAD_SHARE]
        if dead:
            shares = ", ".join(f"{sae.layer} ({sae.dead_share:.0%})" for sae in dead)
            yield f"{run.run}: more than {HIGH_DEAD_SHARE:.0%} of the features are never active in layer {shares}."


def few_documents(result: StudyResult) -> Iterator[str]:
    """Labels with few documents."""
    for run in result.runs:
        if run.fewest_documents < FEW_DOCUMENTS:
            yield (
                f"{run.run}: a label has {run.fewest_documents} documents; with fewer than {FEW_DOCUMENTS}, d, label "
                "variety and recall of a label are uncertain, and chance makes label-specific features."
            )


def small_halves(result: StudyResult) -> Iterator[str]:
    """Knockouts that are chosen and measured on few documents, because each takes one half."""
    if result.settings.holdout:
        few = [run for run in result.runs if run.knockouts and run.fewest_documents < 2 * FEW_DOCUMENTS]
        if few:
            halves = ", ".join(f"{run.run} ({run.fewest_documents // 2})" for run in few)
            yield (
                f"Features of knockouts are chosen on one half of the documents and measured on the other, which is "
                f"fewer than {FEW_DOCUMENTS} documents of a label in {halves}: an effect has to be large to be beyond "
                "its control."
            )


def specificity_by_chance(result: StudyResult) -> Iterator[str]:
    """Counts of label-specific features that few documents, or permuted labels, explain."""
    for run in result.runs:
        for warning in run.specificity.warnings:
            yield f"{run.run}: {warning}"


def truncation(result: StudyResult) -> Iterator[str]:
    """Documents that the classifier reads in part."""
    for run in result.runs:
        if run.truncated > MANY_TRUNCATED * run.documents:
            yield f"{run.run}: {run.truncated} of {run.documents} documents are cut at the classifier's max_length."


def unread_pooling(result: StudyResult) -> Iterator[str]:
    """Poolings over positions that the head does not read."""
    for run in result.runs:
        pooling = run.specificity.pooling
        if pooling != "head" and run.head != "all":
            yield (
                f"{run.run}: d and label variety are of activations pooled by {pooling} over all positions; the head "
                "of the classifier reads one of them."
            )


def chosen_and_measured_on_the_same_documents(result: StudyResult) -> Iterator[str]:
    """Features and layers that are chosen by what is reported."""
    if not result.settings.holdout and any(run.knockouts for run in result.runs):
        given = isinstance(result.settings.layer, int | dict)
        yield (
            f"The features of knockouts{'' if given else ' and their layer'} are chosen on the documents that they are "
            "measured on, which overstates the effect; --holdout measures on other documents."
        )


def layers_left_out(result: StudyResult) -> Iterator[str]:
    """Layers that knockouts could not be computed in."""
    for run in result.runs:
        for effect in run.layer_choice.effects if run.layer_choice else ():
            if effect.left_out:
                yield f"{run.run}: layer {effect.layer} could not be chosen for knockouts: {effect.left_out}."


def nearly_tied_layers(result: StudyResult) -> Iterator[str]:
    """Layers that other documents may choose as well."""
    for run in result.runs:
        if run.layer_choice is None:
            continue
        net = {effect.layer: effect.net for effect in run.layer_choice.effects if effect.net is not None}
        largest = net.pop(run.layer_choice.layer)
        near = [layer for layer, effect in net.items() if effect < 0 and effect <= NEAR_TIE * largest]
        if near:
            others = ", ".join(f"{layer} ({net[layer]:+.1f})" for layer in near)
            yield (
                f"{run.run}: the layer of knockouts, {run.layer_choice.layer} ({largest:+.1f} points net), is nearly "
                f"tied with layer {others}: other documents may choose it."
            )


def knockouts_like_controls(result: StudyResult) -> Iterator[str]:
    """Labels whose knockout costs no more than that of random features of the same density."""
    for run in result.runs:
        labels = len(run.knockouts)
        weak = sum(row.beyond_control is False and not row.by_margin_alone for row in run.knockouts)
        by_margin = sum(row.by_margin_alone for row in run.knockouts)
        if weak:
            yield (
                f"{run.run}: the knockouts of {weak} of {labels} labels are not beyond their control, that of other "
                "features of the same density; they take no part in the mean of points."
            )
        if by_margin:
            yield (
                f"{run.run}: the knockouts of {by_margin} of {labels} labels lower the margin beyond their control, "
                "and not the recall, which falls only where another label becomes likelier; they take no part in the "
                "mean of points."
            )
        if run.knockouts and not run.knockout_mean.shown:
            yield f"{run.run}: no mean effect of knockouts is shown, and no difference from those of other runs."


def labels_by_default(result: StudyResult) -> Iterator[str]:
    """Labels whose recall cannot show a knockout."""
    for run in result.runs:
        if default := default_label(run.knockouts, run.classification.labels):
            yield f"{run.run}: {default_label_sentence(default)}."


def cues_on_tokens_of_all_labels(result: StudyResult) -> Iterator[str]:
    """Features whose top token does not distinguish their label."""
    for run in result.runs:
        features = sum(len(cues.features) for cues in run.cues)
        elsewhere = features - sum(cues.on_label_tokens for cues in run.cues)
        if elsewhere > MANY_ELSEWHERE * features:
            yield (
                f"{run.run}: {elsewhere} of the {features} features of knockouts are most active on a token that is in "
                "no more documents of their label than chance gives: it does not distinguish the label, and the share "
                "of their top token (Figure 2) measures no clue."
            )


def left_out_labels(result: StudyResult) -> Iterator[str]:
    """Labels and tokens that the runs do not share."""
    if result.left_out:
        yield f"Labels left out, which a run does not have: {', '.join(result.left_out)}."
    if not result.same_tokens:
        yield "The runs read the shared documents as different tokens: counts of token ids are not comparable."


def matching_artefacts(result: StudyResult) -> Iterator[str]:
    """Pairs of features that are alike for other reasons than the models."""
    for matching in filter(None, (result.matching, *result.baselines)):
        names = " and ".join(matching.runs)
        for sentence in left_out_cosines(matching):
            yield f"{names}: {sentence}"
        pairs, chance = (
            sum(getattr(layer.by_correlation[0], field) for layer in matching.layers)
            for field in ("pairs", "by_chance")
        )
        if chance > CHANCE_SHARE * pairs:
            yield (
                f"{names}: {pairs} pairs have a correlation of at least {CUTOFFS[0]}, and with permuted documents "
                f"{chance}: features that are active in few documents correlate by chance."
            )


def no_baseline(result: StudyResult) -> Iterator[str]:
    """A count of shared features without a scale."""
    if result.matching and not result.baselines:
        yield (
            "Counts of shared features have no baseline here: two SAE sets of one classifier share a part of their "
            "features only. A run with another saes.seed gives it: tegakari compare --run A --run A2."
        )


def below_the_baseline(result: StudyResult) -> Iterator[str]:
    """Classifiers that are worse than one without a language model."""
    for run in result.runs:
        score, baseline = run.classification.macro_f1, run.classification.baseline_macro_f1
        if baseline is not None and score.high < baseline:
            yield f"{run.run}: macro-F1 {score.value:.3f} is below {baseline:.3f}, that of TF-IDF with a linear SVC."


def predictions_by_chance(result: StudyResult) -> Iterator[str]:
    """Classifiers that are not shown to have learned their labels."""
    for run in result.runs:
        accuracy = run.classification.accuracy
        if accuracy.low <= run.largest_share:
            yield (
                f"{run.run}: accuracy {accuracy.value:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) is not shown to "
                f"be above {run.largest_share:.3f}, that of predicting the most frequent label for all documents; "
                "features and circuits of such a classifier need not have to do with its labels."
            )


LIMITS: tuple[Limit, ...] = (
    one_run_per_model,
    skipped_parts,
    missing_circuits,
    circuits_of_few_pairs,
    unstable_circuits,
    missing_variants,
    sae_quality,
    few_documents,
    small_halves,
    specificity_by_chance,
    below_the_baseline,
    predictions_by_chance,
    chosen_and_measured_on_the_same_documents,
    layers_left_out,
    nearly_tied_layers,
    knockouts_like_controls,
    labels_by_default,
    cues_on_tokens_of_all_labels,
    unread_pooling,
    truncation,
    left_out_labels,
    matching_artefacts,
    no_baseline,
)
"""In the order of the report."""
