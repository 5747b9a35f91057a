"""A tiny classifier of a family is indexed, knocked out and patched, and the results are compared with plain passes.

The oracle is transformers alone: one unpadded document per pass, its own list of hidden states, and a forward hook that
edits one of them. No state is left between "works" and "refused with a reason": anything else is an exception.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.knockout import knock_out
from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.pipeline import index
from tegakari.models.rerun.components import COMPONENTS, component_modules, run_components
from tegakari.models.rerun.edits import Positions
from tegakari.models.rerun.patching import run_patches
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig
from tegakari.schemas.errors import ModelError
from tegakari.schemas.knockout import KnockoutSettings, LayerFeature
from tegakari.store import Run, Store
from tools.tiny_families import D_MODEL, PAD, save_tiny_model, tiny_config

WORKS = "yes"

LABELS = ("cars", "cats", "cups")
_WORDS = ("red", "two", "old", "a", "in", "box", "sun", "map")
_DOCUMENTS_PER_LABEL = 4
_DEPTHS = (3, 4, 6)
"""Layers of the tiny models."""

_D_SAE = 24
_TOLERANCE = 2e-3
"""Of logits and residuals, relative to their largest entry; of activations, which are rounded to 11 bits, as well."""


class Trial(NamedTuple):
    """What works for a family: `WORKS`, or why it is refused."""

    architecture: str
    head: str
    """positions that the head reads; "" if the family is refused"""
    indexed: str
    knocked_out: str
    circuit: str


class Inputs(NamedTuple):
    """What the trials of all families share, on disk."""

    corpus: CorpusConfig
    saes: dict[int, Path]
    """directory of SAEs by number of layers"""
    texts: list[str]


def make_inputs(directory: Path) -> Inputs:
    """Write and import a corpus, and write random SAEs."""
    rng = np.random.default_rng(0)
    posts = [
        {"id": f"{label}-{number}", "title": label, "body": " ".join(rng.choice(_WORDS, 1 + number)), "label": label}
        for label in LABELS
        for number in range(_DOCUMENTS_PER_LABEL)
    ]
    source = directory / "posts.jsonl"
    source.write_text("".join(json.dumps({**post, "split": "eval"}) + "\n" for post in posts))
    corpus = CorpusConfig(source=str(source), path=str(directory / "corpus"), split_column="split")
    import_corpus(corpus)
    saes = {depth: directory / f"saes-{depth}" for depth in _DEPTHS}
    for depth, path in saes.items():
        for layer in range(depth):
            _write_sae(path / f"layer_{layer}", layer, np.random.default_rng(layer))
    return Inputs(corpus, saes, [f"{post['title']}\n{post['body']}" for post in posts])


def _write_sae(directory: Path, layer: int, rng: np.random.Generator) -> None:
    directory.mkdir(parents=True)
    decoder = rng.normal(size=(_D_SAE, D_MODEL)) / np.sqrt(D_MODEL)
    tensors = {"W_enc": decoder.T, "W_dec": decoder, "b_enc": np.zeros(_D_SAE), "b_dec": np.zeros(D_MODEL)}
    cfg = {
        "architecture": "standard",
        "d_in": D_MODEL,
        "d_sae": _D_SAE,
        "dtype": "float32",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"},
    }
    (directory / "cfg.json").write_text(json.dumps(cfg))
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    save_file(arrays, directory / "sae_weights.safetensors")


def family_config(family: str, inputs: Inputs, directory: Path) -> Config:
    """Configuration that indexes `directory`/classifier as run "trial" of `directory`/store."""
    depth = getattr(tiny_config(family).get_text_config(), "num_hidden_layers", _DEPTHS[0])
    return Config(
        corpus=inputs.corpus,
        classifier=ClassifierConfig(path=str(directory / "classifier"), max_length=24),
        saes=SaesConfig(path=str(inputs.saes[depth]), d_sae=_D_SAE),
        index=IndexConfig(run="trial", store=str(directory / "store"), top_tokens=3, batch_tokens=200, device="cpu"),
    )


def try_family(family: str, inputs: Inputs, directory: Path) -> Trial:
    """Index, knock out and patch the tiny classifier of a family.

    Args:
        family: its `model_type`.
        inputs: from `make_inputs`.
        directory: empty, for the classifier and the store.

    Raises:
        AssertionError: a result is not that of plain passes.
        Exception: any error that is neither a `ModelError` nor a missing package of transformers.
    """
    try:
        save_tiny_model(family, LABELS, directory / "classifier")
    except ImportError as error:
        return _refused(family, f"transformers needs a package for it: {_first_sentence(str(error))}")
    try:
        index(family_config(family, inputs, directory))
    except ModelError as error:
        return _refused(family, error.message)
    run = Store(directory / "store").run("trial")
    models = load_run_models(run, "cpu")
    oracle = _Oracle(directory / "classifier", models)
    _compare_index(run, models, oracle, inputs)
    _compare_knockout(directory / "store", run, models, oracle, inputs)
    manifest = run.manifest.classifier
    return Trial(manifest.architecture, manifest.head, WORKS, WORKS, _circuit(models, oracle, inputs))


def _refused(family: str, reason: str) -> Trial:
    return Trial(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[family], "", reason, reason, reason)


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0]


class _Oracle:
    """Passes of one unpadded document through the model as transformers loads it."""

    def __init__(self, directory: Path, models: RunModels) -> None:
        self.model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            directory, attn_implementation=models.classifier.model.config._attn_implementation
        ).eval()
        self.model.config.get_text_config().pad_token_id = PAD
        names = {module: name for name, module in models.classifier.model.named_modules()}
        self._blocks = [self.model.get_submodule(names[block]) for block in models.classifier.blocks]

    def hidden_states(self, document: Tokenized) -> tuple[Tensor, ...]:
        """Embeddings and the output of each block, [S, d_model]; the last may be behind a norm."""
        return tuple(states[0] for states in self._run(document, output_hidden_states=True).hidden_states)

    def logits(self, document: Tokenized, edits: Mapping[nn.Module, Edit] | None = None) -> Tensor:
        """Logits [labels], with the outputs of modules edited: [S, d_model] -> [S, d_model]."""
        handles = [module.register_forward_hook(_edited(edit)) for module, edit in (edits or {}).items()]
        logits = self._run(document).logits[0]
        for handle in handles:
            handle.remove()
        return logits

    def block(self, layer: int) -> nn.Module:
        return self._blocks[layer]

    @torch.no_grad()
    def _run(self, document: Tokenized, **options: Any) -> Any:
        ids = torch.tensor([document.input_ids])
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **options)


Edit = Callable[[Tensor], Tensor]


def _edited(edit: Edit) -> Callable[..., Any]:
    def hook(_module: nn.Module, _inputs: object, output: Any) -> Any:
        if isinstance(output, Tensor):
            return edit(output[0])[None]
        return (edit(output[0][0])[None], *output[1:])

    return hook


def _activations(residual: Tensor, sae: Sae) -> Tensor:
    """Activations of a plain SAE by the definition, in float64: [T, d_model] -> [T, d_sae]; none of norm outliers."""
    a = (residual.double() @ sae.W_enc.double() + sae.b_enc.double()).relu()
    return a if sae.max_norm is None else a * (residual.double().norm(dim=1, keepdim=True) <= sae.max_norm)


def _compare_index(run: Run, models: RunModels, oracle: _Oracle, inputs: Inputs) -> None:
    """Residuals of padded batches with hidden states, stored predictions and largest activations with the oracle's."""
    classifier = models.classifier
    documents = classifier.tokenize(inputs.texts)
    batch = classifier.batch(documents)
    residuals: dict[int, Tensor] = {}
    output = classifier.run(batch, residuals.__setitem__)
    largest = torch.zeros(classifier.layers - 1, _D_SAE, dtype=torch.float64)
    for number, document in enumerate(documents):
        _assert_close(output.logits[number], oracle.logits(document))
        states = oracle.hidden_states(document)
        for layer in range(classifier.layers - 1):
            expected = states[layer + 1][document.positions]
            _assert_close(residuals[layer][batch.offsets[number] : batch.offsets[number + 1]], expected)
            largest[layer] = torch.maximum(largest[layer], _activations(expected, models.saes[layer]).amax(0))
    rows = run.rows("SELECT layer, feature, max_activation FROM features ORDER BY layer, feature")
    stored = torch.tensor([row["max_activation"] for row in rows]).view(classifier.layers, _D_SAE)
    _assert_close(stored[:-1], largest)
    by_id = dict(zip(run.blocks.documents.id.to_pylist(), run.blocks.documents.predicted_id, strict=True))
    texts = dict(zip(run.blocks.documents.id.to_pylist(), run.blocks.documents.text.to_pylist(), strict=True))
    for identifier, text in texts.items():
        (document,) = classifier.tokenize([text])
        assert int(by_id[identifier]) == int(oracle.logits(document).argmax())


def _compare_knockout(store: Path, run: Run, models: RunModels, oracle: _Oracle, inputs: Inputs) -> None:
    """Logits before and after a knockout in the first and the last layer with those of edited passes."""
    classifier = models.classifier
    documents = classifier.tokenize(inputs.texts)
    features = list(range(0, _D_SAE, 4))
    cases: list[tuple[int, Positions]] = [(0, "all"), (0, "head"), (classifier.layers - 1, "head")]
    for layer, positions in cases:
        settings = KnockoutSettings(
            features=[LayerFeature(layer, feature) for feature in features],
            texts=inputs.texts,
            positions=positions,
            draws=2,
            details="logits",
        )
        result = knock_out(store, run, models, settings)
        sae = models.saes[layer]
        for document, outcome in zip(documents, result.outcomes or [], strict=True):
            edited = document.positions if positions == "all" or classifier.head == "all" else document.positions[-1:]

            def edit(residual: Tensor, places: list[int] = edited, sae: Sae = sae) -> Tensor:
                removed = _activations(residual[places], sae)[:, features] @ sae.W_dec[features].double()
                return residual.index_add(0, torch.tensor(places), -removed.to(residual.dtype))

            before, after = oracle.logits(document), oracle.logits(document, {oracle.block(layer): edit})
            _assert_close(torch.tensor(outcome.logits_before), before)
            _assert_close(torch.tensor(outcome.logits_after), after)
            if positions == "all":
                assert not torch.allclose(before, after, atol=1e-3), "the knockout changes nothing"


def _circuit(models: RunModels, oracle: _Oracle, inputs: Inputs) -> str:
    """Logits with each component patched, compared with whole passes; or why a circuit is refused."""
    classifier = models.classifier
    documents = classifier.tokenize(inputs.texts[:3])
    batch = classifier.batch(documents)
    try:
        components = run_components(classifier, batch, keys=True)
    except ModelError as error:
        return error.message
    owner, clean = torch.tensor([1, 0, 2]), torch.tensor([0, 2, 1])
    logits = run_patches(classifier, components, owner, components.added[clean])
    names = {module: name for name, module in classifier.model.named_modules()}
    for pair, (corrupted, source) in enumerate(zip(owner.tolist(), clean.tolist(), strict=True)):
        document = documents[corrupted]
        for layer, block in enumerate(classifier.blocks):
            for number in range(len(COMPONENTS)):
                module = oracle.model.get_submodule(names[component_modules(block)[number]])
                values = components.added[source, layer, number]

                def edit(output: Tensor, place: int = document.positions[-1], values: Tensor = values) -> Tensor:
                    return torch.cat([output[:place], values[None], output[place + 1 :]])

                _assert_close(logits[pair, layer, number], oracle.logits(document, {module: edit}))
    return WORKS


def _assert_close(values: Tensor, expected: Tensor) -> None:
    largest = float(expected.abs().max())
    torch.testing.assert_close(values.double(), expected.double(), rtol=0, atol=_TOLERANCE * max(largest, 1e-3))
