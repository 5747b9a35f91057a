"""Presets of `tegakari init`.

The two gemma presets hold the study's settings: 280 training and 120 evaluation documents per label, 512 tokens, full
fine-tuning at 1e-5 with weight decay 0.01 for 3 epochs in batches of 2; ReLU SAEs of 9,216 features on all layers, L1
coefficient 0.03, learning rate 1e-3, batches of 512, 10 epochs; pooling head, the last token. A test compares them with
the study's tables. The study does not name the scale of its coefficient: 0.03 is taken for inputs of mean norm 1, which
at a width of 2,304 is 0.03 * sqrt(2304) = 1.44 for inputs of mean norm sqrt(2304), the scale of `saes.l1_coefficient`.
"""

from __future__ import annotations

import math

from tegakari.schemas.config.schema import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig


def _study(model: str) -> Config:
    return Config(
        classifier=ClassifierConfig(base=f"google/{model}"),
        saes=SaesConfig(architecture="relu", l1_coefficient=0.03 * math.sqrt(2304)),
        index=IndexConfig(run=model, pooling="head"),
    )


PRESETS: dict[str, Config] = {
    "gemma-2-2b-jpn-it": _study("gemma-2-2b-jpn-it"),
    "gemma-2-2b-it": _study("gemma-2-2b-it"),
    "small-encoder": Config(
        classifier=ClassifierConfig(base="base-model", learning_rate=5e-5, epochs=4, batch_size=16),
        saes=SaesConfig(d_sae=1536, target_l0=32, batch_size=256, epochs=12),
        index=IndexConfig(run="small-encoder"),
    ),
    "small-decoder": Config(
        classifier=ClassifierConfig(base="base-model", learning_rate=3e-5, batch_size=8),
        saes=SaesConfig(d_sae=2304, target_l0=32, batch_size=256, epochs=12),
        index=IndexConfig(run="small-decoder"),
    ),
    "tiny": Config(
        corpus=CorpusConfig(train_per_label=80, eval_per_label=40),
        classifier=ClassifierConfig(base="base-model", max_length=128, learning_rate=7e-4, epochs=5, batch_size=16),
        saes=SaesConfig(
            architecture="batch_topk",
            d_sae=512,
            k=16,
            learning_rate=3e-3,
            batch_size=256,
            epochs=3,
            buffer_positions=131_072,
        ),
        index=IndexConfig(run="tiny", pooling="head"),
    ),
}
"""By the names of `tegakari init --preset`.

`small-encoder` suits encoders of a d_model of about 384 (MiniLM, e5-small), `small-decoder` decoders of 576 to 1,024
(SmolLM2, Gemma 3 270M), `tiny` models of a few million parameters on a CPU. The SAEs have 4 * d_model features for the
narrowest of these. `small-encoder` and `small-decoder` reach 2,000 steps with 43,000 positions; `tiny` does not, so
that the demo takes a minute.
"""
