"""A corpus that a small model learns in seconds, and configurations to fine-tune on it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tegakari.indexer.corpus import import_corpus
from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig
from tests.support.recorded_progress import ActingProgress

CLUES = {"aozora-😀": "軽トラ", "aozora-型/関数": "MTG", "jmmlu-\u202e法律?": "味噌汁", "مجتمع": "笑顔"}
"""Label -> the clue, which stands in all of its posts and in no post of another label."""

NEUTRAL = ("今日は", "とても", "楽しい", "一日でした", "よろしく", "お願いします", "質問があります", "ありがとう")
TRAIN, EVAL = 18, 6
"""documents per label"""

SETTINGS: dict[str, Any] = {
    "max_length": 24,
    "learning_rate": 3e-3,
    "epochs": 8,
    "batch_size": 8,
    "checkpoint_steps": 1000,
    "seed": 3,
}
STEPS_PER_EPOCH = 9


def write_corpus(root: Path, clues: dict[str, str], train: int = TRAIN, held_out: int = EVAL) -> CorpusConfig:
    """Import posts of 2 to 6 words, one of them the label's clue; no two are the same."""
    rng = random.Random(0)
    root.mkdir(parents=True, exist_ok=True)
    source = root / "posts.jsonl"
    with source.open("w", encoding="utf-8") as stream:
        for label, clue in clues.items():
            texts: set[str] = set()
            for number in range(train + held_out):
                words = [clue]
                while "".join(words) in {clue, *texts}:
                    words = [rng.choice(NEUTRAL) for _ in range(rng.randint(1, 5))]
                    words.insert(rng.randint(0, len(words)), clue)
                texts.add("".join(words))
                split = "train" if number < train else "eval"
                post = {"id": f"{label}-{number:02d}", "title": words[0], "body": "".join(words[1:])}
                stream.write(json.dumps({**post, "label": label, "split": split}, ensure_ascii=False) + "\n")
    config = CorpusConfig(source=str(source), path=str(root / "corpus"), split_column="split")
    import_corpus(config)
    return config


class Case:
    """Configurations that share a corpus and a base model."""

    def __init__(self, corpus: CorpusConfig, base: Path) -> None:
        self.corpus = corpus
        self.base = base

    @property
    def corpus_path(self) -> Path:
        return Path(self.corpus.path)

    def config(self, path: Path, **changes: Any) -> Config:
        """The case's configuration, writing to `path`, with other settings of the classifier."""
        settings = {"base": str(self.base), "path": str(path), **SETTINGS, **changes}
        index = IndexConfig(batch_tokens=100, device="cpu")
        return Config(corpus=self.corpus, classifier=ClassifierConfig(**settings), index=index)


def acting_at(step: int, act: Callable[[], object]) -> ActingProgress:
    """Progress that calls a function after a step of the fine-tuning."""
    return ActingProgress("fine-tuning", step, act)
