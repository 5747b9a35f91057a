"""The case of the indexing benchmarks: invented posts, a Gemma 2 classifier and SAEs with random weights.

The weights are random, but the work is real: the bias of every SAE is set on residuals of the posts, so that the
requested number of features is active.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForSequenceClassification

from tegakari.demo.communities import COMMUNITIES
from tegakari.demo.corpus import generate
from tegakari.demo.tokenizer import train_tokenizer
from tegakari.indexer.corpus import import_corpus, read_documents
from tegakari.models.classifier import Classifier
from tegakari.models.fingerprint import fingerprint
from tegakari.models.loading import load_classifier
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import load_saes, save_sae
from tegakari.models.tokens import Tokenized, bucketed
from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig

POSTS_PER_DOCUMENT = range(1, 10)
CALIBRATION_POSITIONS = 1024
"""Positions on which the biases of the SAEs are set"""
EXPLAINED_SHARE = 256 / 12_650
"""Share of the documents on which `index` measures explained variance in a corpus of the study's size"""


class Shape(NamedTuple):
    """Sizes of a Gemma 2 classifier and its SAEs; the defaults are gemma-2-2b's and the study's."""

    layers: int = 26
    d_model: int = 2304
    intermediate: int = 9216
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 256
    vocabulary: int = 256_000
    d_sae: int = 9216
    active: int = 500
    """mean active features per layer and position"""


SMALL = Shape(
    layers=6, d_model=128, intermediate=512, heads=4, kv_heads=2, head_dim=32, vocabulary=4096, d_sae=512, active=30
)
"""Model of the comparison with peers."""


def scaled(layers: int, d_model: int) -> Shape:
    """Shapes of gemma-2-2b and the study with another number of layers and another d_model, which all widths follow."""
    full = Shape()
    share = d_model / full.d_model
    return Shape(
        layers=layers,
        d_model=d_model,
        intermediate=round(full.intermediate * share),
        head_dim=round(full.head_dim * share),
        vocabulary=max(4096, round(full.vocabulary * share)),
        d_sae=round(full.d_sae * share),
        active=round(full.active * share),
    )


def configuration_of(shape: Shape, labels: Sequence[str]) -> Gemma2Config:
    """Configuration of a Gemma 2 classifier."""
    return Gemma2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.d_model,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        query_pre_attn_scalar=shape.head_dim,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )


def make_case(
    root: Path,
    shape: Shape,
    documents: int,
    *,
    labels: int = len(COMMUNITIES),
    layers: Sequence[int] | None = None,
) -> Config:
    """Write classifier, SAEs and corpus below a directory, unless they exist.

    Args:
        root: created if missing.
        shape: of the models.
        documents: number of evaluation documents, the same for all labels.
        labels: number of labels.
        layers: layers with an SAE; default: all.

    Returns:
        configuration of the index.
    """
    config = Config(
        corpus=CorpusConfig(
            source=str(root / "posts.jsonl"),
            path=str(root / "corpus"),
            split_column="split",
            eval_per_label=documents,
            train_per_label=1,
        ),
        classifier=ClassifierConfig(path=str(root / "classifier")),
        saes=SaesConfig(path=str(root / "saes"), d_sae=shape.d_sae),
        index=IndexConfig(
            run="benchmark",
            pooling="head",
            store=str(root / "store"),
            explained_variance_documents=max(1, round(documents * EXPLAINED_SHARE)),
        ),
    )
    if not (root / "ready").exists():
        root.mkdir(parents=True, exist_ok=True)
        _write_corpus(config, documents, labels)
        _write_classifier(config, shape)
        _write_saes(config, shape, range(shape.layers) if layers is None else layers)
        (root / "ready").touch()
    return config


def with_store(config: Config, store: Path) -> Config:
    """The same configuration with another store."""
    return msgspec.structs.replace(config, index=msgspec.structs.replace(config.index, store=str(store)))


def texts(config: Config) -> list[str]:
    return [document.text for document in read_documents(Path(config.corpus.path), config.index.split)]


def classifier_of(config: Config) -> Classifier:
    """Classifier of a configuration, loaded as `index` loads it."""
    return load_classifier(
        config.classifier.path,
        max_length=config.classifier.max_length,
        device=config.index.device,
        dtype=config.index.dtype,
    )


def loading_seconds(config: Config, now: Callable[[], float]) -> float:
    """Seconds in which `index` reads and hashes its models, by a clock."""
    start = now()
    classifier_of(config)
    load_saes(Path(config.saes.path))
    for directory in (config.classifier.path, config.saes.path):
        fingerprint(Path(directory))
    return now() - start


def batches(documents: list[Tokenized], batch_tokens: int) -> Iterator[list[Tokenized]]:
    """Batches of documents of similar length."""
    for group in bucketed([len(document) for document in documents], batch_tokens):
        yield [documents[index] for index in sorted(group)]


def _write_corpus(config: Config, documents: int, labels: int) -> None:
    """Write documents of one to nine invented posts: 30 to 300 tokens, 150 on average, as in real posts."""
    rng = Random(0)
    shuffled = (rng.sample(POSTS_PER_DOCUMENT, len(POSTS_PER_DOCUMENT)) for _ in range(documents))
    counts = list(islice(chain.from_iterable(shuffled), documents))
    generated = generate(0, max(sum(counts[label::labels]) for label in range(labels)))
    posts = [iter([post for post in generated if post.label == COMMUNITIES[label].label]) for label in range(labels)]
    with Path(config.corpus.source).open("w", encoding="utf-8") as file:
        for number, count in enumerate(counts):
            joined = list(islice(posts[number % labels], count))
            row = {
                "id": f"document-{number:06d}",
                "title": joined[0].title,
                "body": "\n".join(post.body for post in joined),
                "label": joined[0].label,
                "split": "eval",
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    import_corpus(config.corpus)


def _write_classifier(config: Config, shape: Shape) -> None:
    documents = read_documents(Path(config.corpus.path), "eval")
    labels = sorted({document.label for document in documents})
    tokenizer = train_tokenizer([document.text for document in documents[:2000]], min(4096, shape.vocabulary))
    torch.manual_seed(0)
    configuration = configuration_of(shape, labels)
    gpu = torch.cuda.is_available()
    with torch.device("cuda" if gpu else "cpu"):  # 2.6 billion random numbers take minutes on a CPU
        model = Gemma2ForSequenceClassification(configuration)
    if gpu:
        model.bfloat16()
    model.save_pretrained(config.classifier.path)
    tokenizer.save_pretrained(config.classifier.path)


def _write_saes(config: Config, shape: Shape, layers: Sequence[int]) -> None:
    """Write one SAE per layer; each is written before the next is made."""
    classifier = classifier_of(config)
    residuals = _residuals(classifier, texts(config), layers)
    for layer, residual in residuals.items():
        random = torch.Generator().manual_seed(layer)
        directions = torch.randn(shape.d_sae, shape.d_model, generator=random)
        directions /= directions.norm(dim=1, keepdim=True)
        product = residual @ directions.T
        # All features have the same density: none is always active because of the mean of the residuals.
        active = max(1, round(len(product) * shape.active / shape.d_sae))
        bias = -product.topk(active, dim=0).values[-1]
        sae = Sae(directions.T.contiguous(), directions, bias, torch.zeros(shape.d_model), layer=layer)
        save_sae(Path(config.saes.path) / f"layer_{layer:02d}", sae)


def _residuals(classifier: Classifier, corpus_texts: list[str], layers: Sequence[int]) -> dict[int, Tensor]:
    """Residuals of some positions, by layer; float32 on the CPU."""
    documents: list[Tokenized] = []
    positions = 0
    for document in classifier.tokenize(corpus_texts[::7] or corpus_texts):
        documents.append(document)
        positions += len(document.positions)
        if positions >= CALIBRATION_POSITIONS:
            break
    residuals: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for group in batches(documents, 1024):
        batch = classifier.batch(group)
        classifier.run_blocks(batch, lambda layer, residual: residuals[layer].append(residual.float().cpu()), layers)
    return {layer: torch.cat(parts) for layer, parts in residuals.items()}
