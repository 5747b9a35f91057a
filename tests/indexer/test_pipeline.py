"""The index against a second implementation: plain transformers, dense numpy in float64, scipy, full sorts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import RunExistsError, StoreError
from tegakari.store import Store, queries
from tegakari.store.disk.layout import layer_file
from tegakari.store.disk.publish import damaged_files
from tests.support.small_case import LABELS, SmallCase, with_index, write_sae


class Oracle:
    """Dense activations of every eval document, one document at a time, without any of the code under test."""

    def __init__(self, case: SmallCase, layers: int) -> None:
        path = case.config.classifier.path
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForSequenceClassification.from_pretrained(path, attn_implementation="eager").eval()
        model.config.pad_token_id = tokenizer.pad_token_id
        self.documents = [document for document in case.documents if document[2] == "eval"]
        self.labels = np.array([document[1] for document in self.documents])
        self.names = [model.config.id2label[i] for i in range(len(LABELS))]
        self.logits, self.spans, self.embeddings = [], [], []
        saes = [
            load_file(Path(case.config.saes.path) / f"layer_{layer:02d}" / "sae_weights.safetensors")
            for layer in range(layers)
        ]
        self.activations: list[list[np.ndarray]] = [[] for _ in range(layers)]
        for _, _, _, text in self.documents:
            encoded = tokenizer(text, truncation=True, max_length=24, return_offsets_mapping=True)
            ids = torch.tensor([encoded["input_ids"]])
            outputs: list[torch.Tensor] = []
            handles = [
                block.register_forward_hook(lambda m, i, o, outputs=outputs: outputs.append(o))
                for block in model.model.layers
            ]
            with torch.no_grad():
                self.logits.append(model(input_ids=ids).logits[0].double().numpy())
                for handle in handles:
                    handle.remove()
                hidden = model.model(input_ids=ids).last_hidden_state[0, 1:]
            self.embeddings.append(hidden.mean(0).numpy())
            self.spans.append([text[a:b] for a, b in encoded["offset_mapping"]])
            for layer, sae in enumerate(saes):
                h = (outputs[layer] if isinstance(outputs[layer], torch.Tensor) else outputs[layer][0])[0, 1:]
                sae64 = {name: value.astype(np.float64) for name, value in sae.items()}
                pre = (h.double().numpy() - sae64["b_dec"]) @ sae64["W_enc"] + sae64["b_enc"]
                self.activations[layer].append(np.maximum(pre, 0))

    def pooled(self, layer: int, pooling: str) -> np.ndarray:
        pick = {"head": lambda a: a[-1], "max": lambda a: a.max(0), "mean": lambda a: a.mean(0)}[pooling]
        return np.array([pick(a) for a in self.activations[layer]])


@pytest.fixture(scope="module")
def indexed(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory):
    store = tmp_path_factory.mktemp("store")
    result = index(with_index(small_case, store))
    assert not result.already_published
    return small_case, store, Store(store).run("small")


@pytest.fixture(scope="module")
def oracle(indexed) -> Oracle:
    case, _, run = indexed
    return Oracle(case, len(run.manifest.saes.layers))


def test_documents_and_scores(indexed, oracle: Oracle):
    _, _, run = indexed
    rows = run.rows(
        "SELECT d.*, l.label, p.label AS predicted FROM documents d JOIN labels l USING (label_id) "
        "JOIN labels p ON p.label_id = predicted_id ORDER BY document"
    )
    assert [row["id"] for row in rows] == [document[0] for document in oracle.documents]
    assert [row["label"] for row in rows] == list(oracle.labels)
    predicted = [oracle.names[int(logits.argmax())] for logits in oracle.logits]
    assert [row["predicted"] for row in rows] == predicted
    for row, logits, label in zip(rows, oracle.logits, oracle.labels, strict=True):
        assert row["label_logit"] == pytest.approx(logits[oracle.names.index(label)], abs=1e-4)
    from sklearn.metrics import accuracy_score, f1_score

    assert run.manifest.scores.accuracy == pytest.approx(accuracy_score(oracle.labels, predicted))
    expected = f1_score(oracle.labels, predicted, labels=oracle.names, average="macro", zero_division=0)
    assert run.manifest.scores.macro_f1 == pytest.approx(expected)
    assert sum(row["documents"] for row in run.rows("SELECT documents FROM confusion")) == len(rows)


@pytest.mark.parametrize("pooling", ["head", "max", "mean"])
def test_cohens_d_of_every_feature_and_label(indexed, oracle: Oracle, pooling: str):
    _, _, run = indexed
    checked = 0
    for layer in run.manifest.saes.layers:
        pooled = oracle.pooled(layer, pooling)
        rows = run.rows(
            f"SELECT feature, label, mean_{pooling} m, sd_{pooling} s, d_{pooling} cohens_d "
            f"FROM feature_labels JOIN labels USING (label_id) WHERE layer = {layer}"
        )
        alive = {
            feature for feature in range(pooled.shape[1]) if any(a[:, feature].any() for a in oracle.activations[layer])
        }
        assert {row["feature"] for row in rows} == alive
        for row in rows:
            label, rest = (
                pooled[mask, row["feature"]] for mask in (oracle.labels == row["label"], oracle.labels != row["label"])
            )
            n, m = len(label), len(rest)
            spread = np.sqrt(((n - 1) * label.var(ddof=1) + (m - 1) * rest.var(ddof=1)) / (n + m - 2))
            assert row["m"] == pytest.approx(label.mean(), rel=1e-3, abs=1e-5)
            assert row["s"] == pytest.approx(label.std(ddof=1), rel=1e-3, abs=1e-5)
            if spread > 1e-4:
                assert row["cohens_d"] == pytest.approx((label.mean() - rest.mean()) / spread, rel=1e-3, abs=1e-4)
                checked += 1
    assert checked > 200


def test_density_l0_variety_and_maximum(indexed, oracle: Oracle):
    _, _, run = indexed
    for layer in run.manifest.saes.layers:
        activations = np.concatenate(oracle.activations[layer])
        rows = run.rows("SELECT * FROM features WHERE layer = $layer ORDER BY feature", {"layer": layer})
        near_zero = ((activations > 0) & (activations < 1e-5)).any(0)  # rounding decides whether these are active
        for row in rows:
            values = activations[:, row["feature"]]
            assert row["max_activation"] == pytest.approx(values.max(), rel=1e-4, abs=1e-5)
            if not near_zero[row["feature"]]:
                assert row["active_positions"] == (values > 0).sum()
                assert row["density"] == pytest.approx((values > 0).mean())
        varieties = run.rows(
            "SELECT feature, count(*) FILTER (d_head > 1.0) v FROM feature_labels "
            "WHERE layer = $layer GROUP BY feature",
            {"layer": layer},
        )
        stored = {row["feature"]: row["variety_head"] for row in rows}
        assert all(stored[row["feature"]] == row["v"] for row in varieties)
        l0 = run.rows("SELECT l0, positions FROM layers WHERE layer = $layer", {"layer": layer})[0]
        assert l0["positions"] == len(activations)
        assert l0["l0"] == pytest.approx((activations > 0).sum(1).mean(), rel=1e-3)


def test_the_best_label_has_the_largest_d_and_inactive_features_have_none(indexed):
    _, _, run = indexed
    largest = {
        (row["layer"], row["feature"]): row["cohens_d"]
        for row in run.rows("SELECT layer, feature, max(d_head) AS cohens_d FROM feature_labels GROUP BY ALL")
    }
    rows = run.rows("SELECT layer, feature, active_positions, best_label_id, best_d FROM features")
    assert {row["active_positions"] == 0 for row in rows} == {True, False}, "one kind alone would prove half of it"
    for row in rows:
        if row["active_positions"] == 0:
            assert row["best_label_id"] is row["best_d"] is None
        else:
            assert row["best_d"] == largest[row["layer"], row["feature"]]


def test_top_tokens_agree_with_brute_force(indexed, oracle: Oracle):
    _, _, run = indexed
    for layer in run.manifest.saes.layers:
        rows = run.rows(
            "SELECT feature, rank, activation, d.id, position, token FROM top_tokens "
            "JOIN documents d USING (document) WHERE layer = $layer ORDER BY feature, rank",
            {"layer": layer},
        )
        by_feature: dict[int, list] = {}
        for row in rows:
            by_feature.setdefault(row["feature"], []).append(row)
        for feature in range(48):
            expected = [
                (activation[feature], oracle.documents[number][0], position + 1, oracle.spans[number][position + 1])
                for number, activations in enumerate(oracle.activations[layer])
                for position, activation in enumerate(activations)
                if activation[feature] > 1e-5
            ]
            expected.sort(key=lambda item: -item[0])
            stored = by_feature.get(feature, [])
            assert [row["activation"] for row in stored][: len(expected)] == pytest.approx(
                [a for a, *_ in expected[:7]], rel=1e-4, abs=1e-5
            )
            values = {(document, position): (a, token) for a, document, position, token in expected}
            for row in stored[: len(expected)]:
                a, token = values[row["id"], row["position"]]
                assert (row["activation"], row["token"]) == (pytest.approx(a, rel=1e-4, abs=1e-5), token)


def test_activation_files_hold_the_last_position(indexed, oracle: Oracle):
    _, _, run = indexed
    for layer in run.manifest.saes.layers:
        table = pq.read_table(layer_file(run.directory, layer), partitioning=None)
        dense = np.zeros((len(oracle.documents), 48))
        dense[table["document"].to_numpy(), table["feature"].to_numpy()] = table["activation"].to_numpy()
        np.testing.assert_allclose(dense, oracle.pooled(layer, "head"), rtol=2**-11 + 1e-4, atol=1e-5)
        order = np.lexsort((table["document"].to_numpy(), table["feature"].to_numpy()))
        assert (order == np.arange(len(order))).all()


def test_vectors_are_directions_and_embeddings(indexed, oracle: Oracle):
    import lancedb

    case, _, run = indexed
    database = lancedb.connect(run.directory / "vectors.lance")
    rows = database.open_table("embeddings").to_arrow().sort_by("document")
    np.testing.assert_allclose(np.array(rows["vector"].to_pylist()), np.array(oracle.embeddings), atol=1e-4)
    directions = database.open_table("directions").to_arrow()
    W_dec = load_file(Path(case.config.saes.path) / "layer_01" / "sae_weights.safetensors")["W_dec"]
    layer_1 = directions.filter(np.array(directions["layer"]) == 1).sort_by("feature")
    np.testing.assert_allclose(np.array(layer_1["vector"].to_pylist()), W_dec, rtol=1e-6)


def test_queries_agree_with_the_tables(indexed, oracle: Oracle):
    _, _, run = indexed
    pages, cursor = [], None
    while True:
        page = queries.label_features(run, "車/軽", layer=1, limit=9, cursor=cursor)
        pages += page.items
        cursor = page.next
        if cursor is None:
            break
    rows = run.rows(
        "SELECT feature, d_head FROM feature_labels JOIN labels USING (label_id) "
        "WHERE label = '車/軽' AND layer = 1 AND d_head IS NOT NULL ORDER BY d_head DESC, feature"
    )
    assert [(row.feature, row.cohens_d) for row in pages] == [(row["feature"], row["d_head"]) for row in rows]
    layer = next(row for row in queries.specificity(run) if row.layer == 1)
    assert layer.weak + layer.specific + layer.shared == 48
    detail = queries.feature(run, 1, pages[0].feature, tokens=3)
    assert detail.labels[0].cohens_d == max(label.cohens_d for label in detail.labels if label.cohens_d is not None)
    for token in detail.tokens:
        text = next(document[3] for document in oracle.documents if document[0] == token.document)
        assert token.before + token.token + token.after in text


def test_planted_clues_have_their_label_and_feature(small_case: SmallCase, tmp_path: Path):
    """A model whose residual is the token's embedding, and an SAE with one feature for the last token of each clue.

    The best feature of each label is that of its clue. (In Gemma 2 a block's output passes a norm of gain 1 + weight;
    with weights of -1 no block adds anything to the residual.)
    """
    model_path = tmp_path / "classifier"
    shutil.copytree(small_case.config.classifier.path, model_path)
    weights = load_file(model_path / "model.safetensors")
    for name, value in weights.items():
        if "post_attention_layernorm" in name or "post_feedforward_layernorm" in name:
            value[:] = -1
    save_file(weights, model_path / "model.safetensors", {"format": "pt"})
    embeddings = weights["model.embed_tokens.weight"]
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    labels = sorted(LABELS)
    clues = [tokenizer(LABELS[label], return_offsets_mapping=True) for label in labels]
    clue_tokens = [LABELS[label][slice(*clue["offset_mapping"][-1])] for label, clue in zip(labels, clues, strict=True)]
    directions = np.stack([embeddings[clue["input_ids"][-1]] for clue in clues])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    length = np.linalg.norm(embeddings[clues[0]["input_ids"][-1]]) * np.sqrt(embeddings.shape[1])
    sae = {
        "W_enc": directions.T,
        "b_enc": np.full(len(labels), -0.85 * length),
        "W_dec": directions,
        "b_dec": np.zeros(embeddings.shape[1]),
    }
    for layer in (0, 2):
        write_sae(tmp_path / "saes" / f"layer_{layer:02d}", layer, sae)
    # Pooling mean: the value depends on the length of the post, so that labels have a variance.
    config = with_index(small_case, tmp_path / "store", pooling="mean")
    config = msgspec.structs.replace(
        config,
        saes=msgspec.structs.replace(config.saes, path=str(tmp_path / "saes")),
        classifier=msgspec.structs.replace(config.classifier, path=str(model_path)),
    )
    index(config)
    run = Store(tmp_path / "store").run("small")
    assert run.manifest.saes.layers == [0, 2]
    for layer in (0, 2):
        for feature, label in enumerate(labels):
            best = queries.label_features(run, label, layer=layer, variety="specific").items[0]
            assert (best.feature, best.top_tokens) == (feature, [clue_tokens[feature]])
            assert best.cohens_d > 1


def test_a_published_run_is_returned_and_other_settings_are_refused(indexed):
    case, store, run = indexed
    again = index(with_index(case, store))
    assert again.already_published
    assert again.manifest.created == run.manifest.created
    with pytest.raises(RunExistsError, match="another classifier"):
        index(with_index(case, store, top_tokens=3))


def test_doubts_about_the_training_of_the_saes_stand_in_the_run(small_case: SmallCase, tmp_path: Path):
    """SAEs of short documents without a BOS token, two of them of another model."""
    shutil.copytree(small_case.config.saes.path, tmp_path / "saes")
    for layer in range(3):
        file = tmp_path / "saes" / f"layer_{layer:02d}" / "cfg.json"
        config = json.loads(file.read_text())
        config["metadata"] |= {"context_size": 8, "model_name": "gpt2-small" if layer else ""}
        config["normalize_activations"] = "layer_norm"
        file.write_text(json.dumps(config))
    shutil.copytree(small_case.config.classifier.path, tmp_path / "classifier")
    file = tmp_path / "classifier" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "_name_or_path": "google/gemma-2-2b-it"}))
    config = with_index(small_case, tmp_path / "store")
    config = msgspec.structs.replace(
        config,
        saes=msgspec.structs.replace(config.saes, path=str(tmp_path / "saes")),
        classifier=msgspec.structs.replace(config.classifier, path=str(tmp_path / "classifier")),
    )
    manifest = index(config).manifest
    assert manifest.saes.doubts == [
        "layers 0 to 2: it was trained on documents of up to 8 tokens, the classifier reads up to 24",
        "layers 1 and 2: it was trained on gpt2-small, the classifier's base is google/gemma-2-2b-it",
    ]
    assert index(with_index(small_case, tmp_path / "other")).manifest.saes.doubts == []


def test_two_processes_do_not_index_the_same_run(small_case: SmallCase, tmp_path: Path):
    import fcntl

    work = tmp_path / "work" / "small"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process"):
            index(with_index(small_case, tmp_path))


def test_any_changed_file_is_named(indexed):
    _, store, run = indexed
    assert damaged_files(store, "small") == []
    damaged = layer_file(run.directory, 0)
    original = damaged.read_bytes()
    damaged.write_bytes(original[:50] + bytes([original[50] ^ 1]) + original[51:])
    try:
        assert damaged_files(store, "small") == [
            "activations/layer=00/part-0.parquet: content differs from its checksum"
        ]
    finally:
        damaged.write_bytes(original)


def test_the_manifest_lists_all_files_and_counts(indexed):
    _, store, run = indexed
    manifest = run.manifest
    files = {file.relative_to(run.directory).as_posix() for file in run.directory.rglob("*") if file.is_file()}
    assert {entry.path for entry in manifest.files} | {"run.json"} == files
    assert manifest.activations == sum(
        pq.ParquetFile(layer_file(run.directory, layer)).metadata.num_rows for layer in manifest.saes.layers
    )
    raw = json.loads((run.directory / "run.json").read_text())
    assert raw["corpus"]["documents"] == manifest.corpus.documents
    assert not (store / "work" / "small").exists()
