"""The tables of a run and of analyses: names, columns, types and meaning.

DuckDB's tables, Arrow's schemas and the page about the tables in the documentation are made from these.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from tegakari.schemas.config import POOLINGS

ColumnType = Literal["int32", "int64", "float32", "float64", "string", "bool", "int32[]", "float32[]", "string[]"]
"""Type of the values of a column; `store/column_types.py` has the types of Arrow and DuckDB for it."""


class Column(NamedTuple):
    """One column of a table."""

    name: str
    type: ColumnType
    about: str
    """what a value means"""


class Table(NamedTuple):
    """One table: of `index.duckdb`, or of the Parquet files of a run or an analysis."""

    name: str
    about: str
    order: tuple[str, ...]
    """columns that the rows are sorted by; no two rows agree in all of them: they are the key"""
    columns: tuple[Column, ...]


LABELS = Table(
    "labels",
    "Labels of the classifier, with its scores on the indexed documents.",
    ("label_id",),
    (
        Column("label_id", "int32", "class index of the classifier"),
        Column("label", "string", "name"),
        Column("documents", "int32", "indexed documents with this label (n)"),
        Column("precision", "float64", "share of the documents predicted as this label that have it"),
        Column("recall", "float64", "share of this label's documents that are predicted as this label"),
        Column("f1", "float64", "harmonic mean of precision and recall"),
        Column(
            "specific_features",
            "int32",
            "features with d above the run's threshold for this label alone (variety 1), the run's pooling",
        ),
        Column("shared_features", "int32", "features with d above the threshold for this label and others"),
    ),
)

DOCUMENTS = Table(
    "documents",
    "Indexed documents, their predictions, and their tokens.",
    ("document",),
    (
        Column("document", "int32", "number of the document in this run, in the order of its id"),
        Column("id", "string", "id in the corpus"),
        Column("label_id", "int32", "label of the document"),
        Column("split", "string", "train or eval"),
        Column("predicted_id", "int32", "label that the classifier predicts"),
        Column("label_logit", "float32", "logit of the document's label"),
        Column("predicted_logit", "float32", "logit of the predicted label"),
        Column("tokens", "int32", "tokens that the classifier reads, special tokens included"),
        Column("truncated", "bool", "whether the text was cut at the classifier's max_length"),
        Column("text", "string", "title, newline, body"),
        Column("token_ids", "int32[]", "token at each position"),
        Column("token_starts", "int32[]", "first character of each token in the text"),
        Column("token_ends", "int32[]", "character after the last of each token"),
    ),
)

CONFUSION = Table(
    "confusion",
    "Number of documents per label and predicted label; pairs without documents are absent.",
    ("label_id", "predicted_id"),
    (
        Column("label_id", "int32", "label of the documents"),
        Column("predicted_id", "int32", "predicted label"),
        Column("documents", "int32", "number of documents"),
    ),
)

LAYERS = Table(
    "layers",
    "Layers of the run and the quality of their SAEs.",
    ("layer",),
    (
        Column("layer", "int32", "layer, from 0; its residual is the raw output of that decoder block"),
        Column("d_model", "int32", "width of the residual"),
        Column("d_sae", "int32", "features of the SAE"),
        Column("architecture", "string", "activation of the SAE: relu, jumprelu, topk, batch_topk, gated"),
        Column(
            "positions",
            "int64",
            "countable positions indexed, norm outliers included: those of tokens that are not special, and the head's",
        ),
        Column(
            "outlier_positions",
            "int64",
            "positions whose residual is longer than max_norm; no feature is active there, and no statistic has them",
        ),
        Column("max_norm", "float64", "norm of the residual above which a position is an outlier; null: no limit"),
        Column("l0", "float64", "active features per ordinary position"),
        Column("alive", "int32", "features active on at least one position"),
        Column(
            "explained_variance",
            "float64",
            "1 - sum ||h - h_hat||^2 / sum ||h - mean(h)||^2, ordinary positions of evaluation documents",
        ),
        Column("explained_variance_all", "float64", "the same over ordinary positions and outliers"),
        Column(
            "outlier_variance",
            "float64",
            "share of sum ||h - mean(h)||^2 over all positions of those documents that the outliers add",
        ),
        Column("explained_variance_positions", "int64", "ordinary positions that explained variance is measured on"),
    ),
)

FEATURES = Table(
    "features",
    "Every feature of every layer.",
    ("layer", "feature"),
    (
        Column("layer", "int32", "layer, from 0"),
        Column("feature", "int32", "latent of the layer's SAE, from 0"),
        Column("density", "float64", "share of the layer's ordinary positions on which the feature is active"),
        Column("active_positions", "int64", "positions on which the feature is active"),
        Column(
            "mean_activation",
            "float64",
            "mean over the positions on which the feature is active; 0 if never active",
        ),
        Column("max_activation", "float32", "largest activation; 0 if never active"),
        *(
            Column(
                f"variety_{pooling}",
                "int32",
                f"label variety, pooling {pooling}: labels with d above the run's threshold",
            )
            for pooling in POOLINGS
        ),
        *(
            Column(f"{name}_{pooling}", "float64", f"{about} over all documents, pooling {pooling}")
            for pooling in POOLINGS
            for name, about in (("mean", "mean activation"), ("sd", "standard deviation of the activation, ddof 1,"))
        ),
        Column(
            "best_label_id",
            "int32",
            "label of the largest d, the run's pooling; null if never active or no d is defined",
        ),
        Column("best_d", "float32", "largest d, the run's pooling; null where best_label_id is"),
        Column(
            "best_documents_active",
            "int32",
            "documents of that label in which the feature is active, the run's pooling; null where best_label_id is",
        ),
        Column(
            "top_tokens",
            "string[]",
            "distinct tokens of the strongest positions, strongest first, up to 5",
        ),
    ),
)

FEATURE_LABELS = Table(
    "feature_labels",
    "Statistics of a feature over the documents of a label, per pooling. Features that are never active are absent. "
    "d is null where it is not defined: a label with fewer than 2 documents, or no variance but different means.",
    ("label_id", "layer", "feature"),
    (
        Column("label_id", "int32", "label"),
        Column("layer", "int32", "layer"),
        Column("feature", "int32", "feature"),
        *(
            Column(f"{name}_{pooling}", "float32", f"{about}, pooling {pooling}")
            for pooling in POOLINGS
            for name, about in (
                ("mean", "mean activation over the label's documents"),
                ("sd", "standard deviation, ddof 1"),
                ("d", "Cohen's d of the label's documents against all others"),
            )
        ),
        *(
            Column(
                f"documents_active_{pooling}",
                "int32",
                f"documents of the label in which the feature is active, pooling {pooling}",
            )
            for pooling in POOLINGS
        ),
    ),
)

TOP_TOKENS = Table(
    "top_tokens",
    "The strongest positions of every feature, exact; ties by document, then position.",
    ("layer", "feature", "rank"),
    (
        Column("layer", "int32", "layer"),
        Column("feature", "int32", "feature"),
        Column("rank", "int32", "1 = strongest"),
        Column("activation", "float32", "activation at the position"),
        Column("document", "int32", "document"),
        Column("position", "int32", "token index in the document"),
        Column("token_id", "int32", "id in the tokenizer's vocabulary"),
        Column(
            "token",
            "string",
            "characters that the token covers; a token of a part of a character has the whole character, a special "
            "token its own text",
        ),
        Column("char_start", "int32", "first of those characters in the document's text"),
        Column("char_end", "int32", "character after the last of them"),
    ),
)

SPECIFICITY = Table(
    "specificity",
    "Number of features of a layer per number of labels for which their d exceeds a cut-off.",
    ("layer", "pooling", "cutoff", "variety"),
    (
        Column("layer", "int32", "layer"),
        Column("pooling", "string", "head, max or mean"),
        Column("cutoff", "float64", "Cohen's d"),
        Column("variety", "int32", "labels with d above the cut-off"),
        Column("features", "int32", "number of features with that variety"),
        Column("specific", "int32", "specific ones among them: d above the run's threshold for exactly one label"),
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
    "Parquet files activations/layer=NN/: the features that are active in each document, by the run's pooling. "
    "Activations are rounded to 11 significant bits (relative error at most 2^-11, that of a float16, over the range "
    "of float32), which nearly halves the files. Statistics and top tokens are computed before rounding.",
    ("feature", "document"),
    (
        Column("feature", "int32", "feature of the layer"),
        Column("document", "int32", "document"),
        Column("activation", "float32", "pooled activation, > 0, rounded"),
    ),
)

CONTEXTS = Table(
    "contexts",
    "Parquet files contexts/layer=NN/: windows of tokens around positions of each feature, the strongest ones of the "
    "corpus and a sample of all strengths, with the activation at every token. The sample: of the documents in which a "
    "feature is active, 80 drawn at random (all, if they are fewer) are ordered by their strongest activation and cut "
    "into ten tenths, and two documents of each tenth, drawn at random, give the context of their strongest position. "
    "Activations are rounded as those of the table activations. Runs of format 3 have none, unless "
    "`tegakari runs add-contexts` added them.",
    ("feature", "quantile", "rank"),
    (
        Column("feature", "int32", "feature of the layer"),
        Column("quantile", "int32", "0: one of the strongest positions; 1 (weakest) to 10: tenth of the sample"),
        Column("rank", "int32", "from 1: among the strongest positions by activation, within a tenth in random order"),
        Column("document", "int32", "document"),
        Column("position", "int32", "token index in the document"),
        Column("activation", "float32", "activation at the position, rounded"),
        Column("start", "int32", "token index of the first token of the window"),
        Column("activations", "float32[]", "activation at each token of the window, rounded; 0 where not active"),
    ),
)

PROBES = Table(
    "probes",
    "Parquet file contexts/probes.parquet: documents of which is stored in which features they are active. 16 of "
    "each label, drawn at random, more of each where they are fewer than 256 together.",
    ("document",),
    (
        Column("document", "int32", "document"),
        Column("label_id", "int32", "label of the document"),
    ),
)

LABEL_EFFECTS = Table(
    "label_effects",
    "Parquet files effects/layer=NN/: how much a unit of a feature's activation adds to the logit of each label, "
    "directly through the final norm and the head. Rounded to 11 significant bits. A layer whose residual the blocks "
    "above do not pass on unchanged has none, and runs of format 3 have none unless `tegakari runs add-contexts` added "
    "them.",
    ("label_id", "feature"),
    (
        Column("label_id", "int32", "label"),
        Column("feature", "int32", "feature of the layer"),
        Column("effect", "float32", "logit per unit of activation where the head reads, rounded"),
    ),
)

TERM_EXPLANATIONS = Table(
    "term_explanations",
    "Parquet files explanations/layer=NN/: what contexts of each feature have in common, without those held out "
    "for scores; one context per document. Absent from runs that were indexed without LanceDB, which cuts the "
    "words, and from runs of format 3, unless they were added.",
    ("feature",),
    (
        Column("feature", "int32", "feature of the layer"),
        Column("en", "string", "sentence in English"),
        Column("ja", "string", "sentence in Japanese"),
        Column("contexts", "int32", "contexts that the explanation is made from"),
        Column("covered", "int32", "of them, contexts with at least one term"),
        Column("traits", "string[]", "never, always, single-token, label-wide, positional"),
        Column("token", "string", "most frequent strongest token; null: none with characters"),
        Column("token_share", "float32", "share of the contexts with this token"),
        Column(
            "place", "string", "place of the strongest token: head, first, last, after-punctuation; null: none common"
        ),
        Column("place_share", "float32", "share of the contexts with this place"),
        Column("script", "string", "its script; null: none is common, or that of the corpus"),
        Column("script_share", "float32", "share of the contexts with this script"),
        Column("label_ids", "int32[]", "labels of the largest d above the run's threshold, largest first"),
        Column("label_d", "float32[]", "their d, the run's pooling"),
        Column("label_active", "float32[]", "share of their documents in which the feature is active anywhere"),
        Column("terms", "string[]", "words, in the order in which they add most contexts"),
        Column("term_z", "float32[]", "log-odds ratio of each term over its standard deviation"),
        Column("term_contexts", "int32[]", "contexts with each term"),
        Column("term_on", "int32[]", "contexts whose strongest token is a part of the term"),
        Column("term_before", "int32[]", "contexts with the term before the strongest token only"),
        Column("term_corpus_share", "float32[]", "expected share of the corpus's windows with each term"),
    ),
)

KNOCKOUTS = Table(
    "knockouts",
    "One row per knockout: predictions of the documents with and without the features.",
    ("run", "label", "layer", "k"),
    (
        Column("run", "string", "run"),
        Column("label", "string", "label whose documents are classified; null where documents or texts are given"),
        Column("layer", "int32", "layer; null for features of several"),
        Column("k", "int32", "features that are ablated"),
        Column("documents", "int32", "documents that are classified"),
        Column("recall_before", "float64", "share with the expected prediction, with all features"),
        Column("recall_after", "float64", "the same with the features ablated"),
        Column("delta", "float64", "percentage points: 100 * (after - before)"),
        Column("delta_low", "float64", "lower end of the 95 % interval"),
        Column("delta_high", "float64", "upper end of the 95 % interval"),
        Column("net", "float64", "percentage points: delta minus matched_mean; null with fewer than 2 draws"),
        Column("net_low", "float64", "lower end of its 95 % interval, over documents and draws"),
        Column("net_high", "float64", "upper end of its 95 % interval"),
        Column("beyond_control", "bool", "whether net_high is below 0; null where net is"),
        Column("margin_before", "float64", "logit of the expected label minus the largest other, mean over documents"),
        Column("margin_after", "float64", "the same with the features ablated"),
        Column("margin_net", "float64", "change of the margin minus that of the matched control; null where net is"),
        Column("margin_net_low", "float64", "lower end of its 95 % interval, over documents and draws"),
        Column("margin_net_high", "float64", "upper end of its 95 % interval"),
        Column(
            "margin_beyond_control",
            "bool",
            "whether the classifier tells the label apart and margin_net_high is below 0; null where one is unknown",
        ),
        Column("holdout", "bool", "whether features were chosen on other documents than those classified"),
        Column("random_mean", "float64", "percentage points, mean over draws of k random features"),
        Column("random_sd", "float64", "standard deviation over the draws, ddof 1"),
        Column("matched_mean", "float64", "the same for random features of about the same density"),
        Column("matched_sd", "float64", "standard deviation over the draws, ddof 1"),
        Column("macro_f1_before", "float64", "over all documents of the run, with all features"),
        Column(
            "macro_f1_partial_ablation",
            "float64",
            "the same after the ablation in the classified documents; all others keep their predictions",
        ),
        Column(
            "lost_to",
            "string",
            "label that most of the lost documents are predicted as; null where none are lost",
        ),
    ),
)

CIRCUIT = Table(
    "circuit",
    "Effect of attention and MLP of each layer at the last position, by activation patching.",
    ("run", "layer", "component"),
    (
        Column("run", "string", "run"),
        Column("layer", "int32", "layer"),
        Column("component", "string", "attention or mlp"),
        Column(
            "effect",
            "float64",
            "sum of (z_patched - z_corrupted) / sum of (z_clean - z_corrupted) over pairs with the minimum gain",
        ),
        Column("effect_low", "float64", "lower end of the 95 % interval"),
        Column("effect_high", "float64", "upper end of the 95 % interval"),
        Column(
            "study_effect",
            "float64",
            "mean over all pairs of (z_patched - z_corrupted) / (z_clean - z_corrupted), as in the study",
        ),
        Column("study_effect_low", "float64", "lower end of its 95 % interval"),
        Column("study_effect_high", "float64", "upper end of its 95 % interval"),
        Column("median_effect", "float64", "median of these ratios over pairs with the minimum gain"),
        Column("in_circuit", "bool", "in the circuit by the membership of the settings: one of the next two columns"),
        Column("in_robust_circuit", "bool", "whether effect_low reaches the threshold"),
        Column("in_study_circuit", "bool", "whether study_effect reaches the threshold"),
    ),
)

CIRCUIT_PAIRS = Table(
    "circuit_pairs",
    "Pairs of documents that the effects are measured on.",
    ("run", "clean", "corrupted"),
    (
        Column("run", "string", "run"),
        Column("clean", "string", "id of the document whose outputs are patched in"),
        Column("corrupted", "string", "id of the document that is run with those outputs"),
        Column("cosine", "float32", "cosine of the two embeddings"),
        Column(
            "gain",
            "float32",
            "z_clean - z_corrupted, logits of the clean document's label",
        ),
    ),
)

VARIANTS = Table(
    "variants",
    "Share of a written form's features that remain when the features of another form are removed.",
    ("run", "kind", "k", "layer"),
    (
        Column("run", "string", "run"),
        Column(
            "kind",
            "string",
            "sentences, frames (one sentence for all forms), or unrelated (pairs of different concepts)",
        ),
        Column("k", "int32", "features compared per sentence"),
        Column("layer", "int32", "layer"),
        Column(
            "survival",
            "float64",
            "mean share over concepts (unrelated: over pairs); null where no sentence has features",
        ),
    ),
)

DIFFERENCES = Table(
    "differences",
    "Differences of figures between two runs, or between two groups of replicates.",
    ("figure",),
    (
        Column("figure", "string", "what is compared"),
        Column("name", "string", "the same, as programs name it"),
        Column("a", "float64", "the first run, or mean of the first group"),
        Column("b", "float64", "the second run, or mean of the second group"),
        Column("difference", "float64", "b - a"),
        Column("low", "float64", "lower end of the 95 % interval of the difference"),
        Column("high", "float64", "upper end"),
        Column("over", "string", "what the interval is over, besides training"),
        Column("n", "int32", "number of these items"),
        Column("covers_training", "bool", "whether the interval covers other seeds of the training: with replicates"),
    ),
)

ANALYSIS_TABLES: tuple[Table, ...] = (KNOCKOUTS, CIRCUIT, CIRCUIT_PAIRS, VARIANTS, DIFFERENCES)
"""Parquet files of stored analyses."""
