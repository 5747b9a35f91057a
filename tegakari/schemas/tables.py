"""The tables of a run: names, columns, types and meaning. DuckDB's tables and the schema page come from here."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa


class Column(NamedTuple):
    """One column of a table."""

    name: str
    type: pa.DataType
    about: str


class Table(NamedTuple):
    """One table of `index.duckdb`."""

    name: str
    about: str
    order: tuple[str, ...]
    """rows are stored in this order, and the order is unique: it is the key."""
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(column.name, column.type) for column in self.columns])


LABELS = Table(
    "labels",
    "Labels of the classifier, with its scores on the indexed documents.",
    ("label_id",),
    (
        Column("label_id", pa.int32(), "class index of the classifier"),
        Column("label", pa.string(), "name"),
        Column("documents", pa.int32(), "indexed documents with this label (n)"),
        Column("precision", pa.float64(), "share of documents predicted as this label that have it"),
        Column("recall", pa.float64(), "share of this label's documents that are predicted as it"),
        Column("f1", pa.float64(), "harmonic mean of precision and recall"),
        Column("specific_features", pa.int32(), "features that carry it alone: variety 1, the run's pooling"),
        Column("shared_features", pa.int32(), "features that carry it and other labels"),
    ),
)

DOCUMENTS = Table(
    "documents",
    "Indexed documents, what the classifier said of them, and their tokens.",
    ("document",),
    (
        Column("document", pa.int32(), "number of the document in this run, in the order of its id"),
        Column("id", pa.string(), "id in the corpus"),
        Column("label_id", pa.int32(), "its label"),
        Column("split", pa.string(), "train or eval"),
        Column("predicted_id", pa.int32(), "the label that the classifier predicts"),
        Column("label_logit", pa.float32(), "logit of its label"),
        Column("predicted_logit", pa.float32(), "logit of the predicted label"),
        Column("tokens", pa.int32(), "tokens read, special ones included"),
        Column("truncated", pa.bool_(), "whether its end was cut at the classifier's max_length"),
        Column("text", pa.string(), "title, newline, body"),
        Column("token_ids", pa.list_(pa.int32()), "token at each position"),
        Column("token_starts", pa.list_(pa.int32()), "first character of each token in the text"),
        Column("token_ends", pa.list_(pa.int32()), "character after the last of each token"),
    ),
)

CONFUSION = Table(
    "confusion",
    "How many documents of a label are predicted as which label; absent pairs are zero.",
    ("label_id", "predicted_id"),
    (
        Column("label_id", pa.int32(), "label of the documents"),
        Column("predicted_id", pa.int32(), "predicted label"),
        Column("documents", pa.int32(), "number of documents"),
    ),
)

LAYERS = Table(
    "layers",
    "Layers of the run and the quality of their SAEs.",
    ("layer",),
    (
        Column("layer", pa.int32(), "layer, from 0; its residual is the raw output of that decoder block"),
        Column("d_model", pa.int32(), "width of the residual"),
        Column("d_sae", pa.int32(), "features of the SAE"),
        Column("architecture", pa.string(), "activation of the SAE: relu, jumprelu, topk, batch_topk, gated"),
        Column("positions", pa.int64(), "non-special positions indexed"),
        Column("l0", pa.float64(), "active features per position"),
        Column("alive", pa.int32(), "features active on at least one position"),
        Column(
            "explained_variance", pa.float64(), "1 - sum ||h - h_hat||^2 / sum ||h - mean(h)||^2, evaluation documents"
        ),
        Column("explained_variance_positions", pa.int64(), "positions it was measured on"),
    ),
)

FEATURES = Table(
    "features",
    "Every feature of every layer.",
    ("layer", "feature"),
    (
        Column("layer", pa.int32(), "layer, from 0"),
        Column("feature", pa.int32(), "latent of the layer's SAE, from 0"),
        Column("density", pa.float64(), "share of non-special positions on which it is active"),
        Column("active_positions", pa.int64(), "positions on which it is active"),
        Column("mean_activation", pa.float64(), "mean over the positions on which it is active; 0 if never"),
        Column("max_activation", pa.float32(), "largest activation; 0 if never active"),
        Column("variety_last", pa.int32(), "label variety, pooling last: labels with d above the run's threshold"),
        Column("variety_max", pa.int32(), "the same, pooling max"),
        Column("variety_mean", pa.int32(), "the same, pooling mean"),
        Column("best_label_id", pa.int32(), "label of largest d, the run's pooling; null if it has no d"),
        Column("best_d", pa.float32(), "that d"),
        Column(
            "top_tokens",
            pa.list_(pa.string()),
            "tokens of its strongest positions, each once, strongest first, up to 5",
        ),
    ),
)

FEATURE_LABELS = Table(
    "feature_labels",
    "Statistics of a feature over the documents of a label, for each pooling. Features never active are left out. "
    "d is null where it is not defined: a label with fewer than 2 documents, or no variance but different means.",
    ("label_id", "layer", "feature"),
    (
        Column("label_id", pa.int32(), "label"),
        Column("layer", pa.int32(), "layer"),
        Column("feature", pa.int32(), "feature"),
        *(
            Column(f"{name}_{pooling}", pa.float32(), f"{about}, pooling {pooling}")
            for pooling in ("last", "max", "mean")
            for name, about in (
                ("mean", "mean activation over the label's documents"),
                ("sd", "standard deviation, ddof 1"),
                ("d", "Cohen's d of the label's documents against all others"),
            )
        ),
    ),
)

TOP_TOKENS = Table(
    "top_tokens",
    "The strongest positions of every feature, exact; ties by document, then position.",
    ("layer", "feature", "rank"),
    (
        Column("layer", pa.int32(), "layer"),
        Column("feature", pa.int32(), "feature"),
        Column("rank", pa.int32(), "1 = strongest"),
        Column("activation", pa.float32(), "activation there"),
        Column("document", pa.int32(), "document"),
        Column("position", pa.int32(), "token index in the document"),
        Column("token_id", pa.int32(), "token in the tokenizer's vocabulary"),
        Column("token", pa.string(), "the characters the token covers; a piece of a character shows the whole one"),
        Column("char_start", pa.int32(), "first of those characters in the text"),
        Column("char_end", pa.int32(), "character after the last"),
    ),
)

SPECIFICITY = Table(
    "specificity",
    "How many features of a layer have d above a cut-off for how many labels.",
    ("layer", "pooling", "cutoff", "variety"),
    (
        Column("layer", pa.int32(), "layer"),
        Column("pooling", pa.string(), "last, max or mean"),
        Column("cutoff", pa.float64(), "Cohen's d"),
        Column("variety", pa.int32(), "labels with d above the cut-off"),
        Column("features", pa.int32(), "number of features with that variety"),
    ),
)

TABLES: tuple[Table, ...] = (
    LABELS,
    DOCUMENTS,
    CONFUSION,
    LAYERS,
    FEATURES,
    FEATURE_LABELS,
    TOP_TOKENS,
    SPECIFICITY,
)

ACTIVATIONS = Table(
    "activations",
    "Parquet files activations/layer=NN/: the active features of each document for the run's pooling. Activations are "
    "rounded to 11 significant bits (relative error at most 2^-11, as a float16 has, over the whole range of float32), "
    "which nearly halves the files. Statistics and top tokens are computed before rounding.",
    ("feature", "document"),
    (
        Column("feature", pa.int32(), "feature of the layer"),
        Column("document", pa.int32(), "document"),
        Column("activation", pa.float32(), "pooled activation, > 0, rounded"),
    ),
)

KNOCKOUTS = Table(
    "knockouts",
    "A knockout a row: what became of the documents when the features were taken out.",
    ("run", "label", "layer", "k"),
    (
        Column("run", pa.string(), "run"),
        Column("label", pa.string(), "label whose documents were read; null for documents or texts that were named"),
        Column("layer", pa.int32(), "layer; null for features of several"),
        Column("k", pa.int32(), "features taken out"),
        Column("documents", pa.int32(), "documents read"),
        Column("recall_before", pa.float64(), "share predicted as expected, with all features"),
        Column("recall_after", pa.float64(), "the same without them"),
        Column("delta", pa.float64(), "points: 100 * (after - before)"),
        Column("delta_low", pa.float64(), "lower end of its 95 % interval"),
        Column("delta_high", pa.float64(), "upper end"),
        Column("random_mean", pa.float64(), "points, mean over draws of as many random features"),
        Column("random_sd", pa.float64(), "their standard deviation, ddof 1"),
        Column("matched_mean", pa.float64(), "the same for random features that are about as dense"),
        Column("matched_sd", pa.float64(), "their standard deviation, ddof 1"),
        Column("macro_f1_before", pa.float64(), "over all documents of the run, with all features"),
        Column("macro_f1_after", pa.float64(), "the same without them in the documents read"),
        Column("lost_to", pa.string(), "label that takes most of the lost documents; null where none are lost"),
    ),
)

CIRCUIT = Table(
    "circuit",
    "Mean effect of attention and MLP of each layer at the last position, by activation patching.",
    ("run", "layer", "component"),
    (
        Column("run", pa.string(), "run"),
        Column("layer", pa.int32(), "layer"),
        Column("component", pa.string(), "attention or mlp"),
        Column("effect", pa.float64(), "mean over pairs of (z_patched - z_corrupted) / (z_clean - z_corrupted)"),
        Column("effect_low", pa.float64(), "lower end of its 95 % interval"),
        Column("effect_high", pa.float64(), "upper end"),
        Column("in_circuit", pa.bool_(), "whether the effect reaches the threshold"),
    ),
)

CIRCUIT_PAIRS = Table(
    "circuit_pairs",
    "The pairs of documents that effects were measured on.",
    ("run", "clean", "corrupted"),
    (
        Column("run", pa.string(), "run"),
        Column("clean", pa.string(), "id of the document whose outputs are put in place"),
        Column("corrupted", pa.string(), "id of the document that is run with them"),
        Column("cosine", pa.float32(), "of their embeddings"),
        Column("gained", pa.float32(), "z_clean - z_corrupted of the clean one's label; below 1e-6 effects are 0"),
    ),
)

VARIANTS = Table(
    "variants",
    "How much of a written form's features remains without those of another form.",
    ("run", "kind", "k", "layer"),
    (
        Column("run", pa.string(), "run"),
        Column(
            "kind", pa.string(), "sentences, frames (one sentence for all forms), or unrelated (of different concepts)"
        ),
        Column("k", pa.int32(), "features of a form's sentence that are compared"),
        Column("layer", pa.int32(), "layer"),
        Column("survival", pa.float64(), "mean over concepts (unrelated: pairs); null where no sentence has features"),
    ),
)

ANALYSIS_TABLES: tuple[Table, ...] = (KNOCKOUTS, CIRCUIT, CIRCUIT_PAIRS, VARIANTS)
"""Parquet files of stored analyses."""
