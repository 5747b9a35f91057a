"""Data sets as `datasets` writes them, for test_library_agreement; runs in a Python that has the library.

Usage: python datasets_program.py DIRECTORY    writes data sets below it, and expected.json with the rows of each
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import datasets  # pyright: ignore[reportMissingImports]
from datasets import ClassLabel, Dataset, Features, Sequence, Value  # pyright: ignore


def rows(count: int = 24) -> Dataset:
    """Rows with a class label."""
    features = Features(
        {
            "id": Value("string"),
            "label": ClassLabel(names=["食べ物", "cars"]),
            "title": Value("string"),
            "body": Value("string"),
        }
    )
    numbers = range(count)
    columns = {
        "id": [f"p{number:03}" for number in numbers],
        "label": [number % 2 for number in numbers],
        "title": [f"title {number}" for number in numbers],
        "body": [f"本文 {number}" for number in numbers],
    }
    return Dataset.from_dict(columns, features=features)


def listed(data: Dataset, split: str = "") -> list[list[str]]:
    """Rows with names for class labels."""
    feature = data.features["label"]
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    result = []
    for row in data:
        label = row["label"][0] if isinstance(row["label"], list) else row["label"]
        result.append([row["id"], names[label] if names else label, row["title"], row["body"], split])
    return result


def write(directory: Path) -> dict[str, list[list[str]]]:
    """Save data sets in every way; returns their rows."""
    data = rows()
    kinds = {
        "plain": data,
        "selected": data.select([5, 3, 8, 0, 11, 2]),
        "shuffled": data.shuffle(seed=1),
        "filtered": data.filter(lambda row: int(row["id"][1:]) % 3 > 0),
        "sorted": data.sort("body", reverse=True),
        "mapped": data.map(lambda row: {"body": row["body"] + "!"}),
        "concatenated": datasets.concatenate_datasets([data.select(range(4)), data.select(range(10, 16))]),
    }
    lists = Features({**data.features, "label": Sequence(data.features["label"])})
    kinds["lists of one"] = Dataset.from_list([{**row, "label": [row["label"]]} for row in data], features=lists)
    expected = {}
    for name, kind in kinds.items():
        kind.save_to_disk(directory / name, num_shards=2)
        expected[name] = listed(kind)
    # Work on the saved data set leaves caches beside its files.
    saved = datasets.load_from_disk(directory / "mapped")
    saved.map(lambda row: {"body": "a cache"}).sort("id").filter(lambda row: True)
    split = data.train_test_split(test_size=0.25, seed=3)
    split.save_to_disk(directory / "split")
    expected["split"] = listed(split["train"], "train") + listed(split["test"], "test")
    for name in ("train", "test"):
        split[name].save_to_disk(directory / "each split" / name)
        (directory / "parquet").mkdir(exist_ok=True)
        split[name].to_parquet(directory / "parquet" / f"{name}-00000-of-00001.parquet")
    expected["each split"] = expected["parquet"] = expected["split"]
    selected = data.shuffle(seed=2).select(range(10))
    selected.to_parquet(directory / "selected.parquet")
    expected["selected.parquet"] = listed(selected)
    return expected


def main() -> None:
    """Write all data sets."""
    datasets.disable_progress_bars()
    directory = Path(sys.argv[1])
    (directory / "expected.json").write_text(json.dumps(write(directory)), encoding="utf-8")


if __name__ == "__main__":
    main()
