"""Keys of `tegakari.toml`: one file configures import, training, indexing, serving, explaining.

Defaults and descriptions of the keys are defined only here; `tegakari init` renders the file from these types.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Pooling = Literal["head", "max", "mean"]
POOLINGS: tuple[Pooling, ...] = ("head", "max", "mean")

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

Natural = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]


def _about(description: str) -> Meta:
    return Meta(description=description)


class CorpusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Source of the documents, and number of documents per label."""

    source: Annotated[str, _about("CSV, TSV, JSONL(.gz), Parquet, or a Hugging Face dataset directory")] = "posts.csv"
    encoding: Annotated[str, _about("of CSV, TSV and JSON Lines, such as cp932, euc_jp or utf-16")] = "utf-8"
    path: Annotated[str, _about("directory of the imported corpus")] = "corpus"
    id_column: Annotated[str, _about("unique document id; empty = hash of the content")] = "id"
    title_column: Annotated[str, _about("title; empty = documents have no title")] = "title"
    body_column: Annotated[str, _about("body; the text is title, newline, body")] = "body"
    label_column: Annotated[str, _about("label (the community)")] = "label"
    split_column: Annotated[str, _about("train or eval; empty = sampled, see below")] = ""
    train_per_label: Annotated[Natural, _about("documents per label drawn for training")] = 280
    eval_per_label: Annotated[Natural, _about("documents per label drawn for evaluation")] = 120
    seed: Annotated[Seed, _about("seed of the draw")] = 0
    max_characters: Annotated[Natural, _about("length at which texts are cut before tokenization")] = 100_000


class ClassifierConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The sequence classifier: its base model and its fine-tuning."""

    base: Annotated[str, _about("base model: directory or hub id")] = "google/gemma-2-2b-jpn-it"
    path: Annotated[str, _about("directory of the fine-tuned classifier; or hf://OWNER/REPOSITORY[@REVISION]")] = (
        "classifier"
    )
    max_length: Annotated[Natural, _about("length in tokens at which texts are cut")] = 512
    learning_rate: Annotated[Positive, _about("AdamW learning rate")] = 1e-5
    weight_decay: Annotated[NonNegative, _about("AdamW weight decay")] = 0.01
    epochs: Annotated[Natural, _about("passes over the training documents")] = 3
    batch_size: Annotated[Natural, _about("documents per step")] = 2
    packed: Annotated[bool, _about("documents of a step in one row without padding (decoders)")] = False
    gradient_checkpointing: Annotated[bool, _about("less memory, about a third more time")] = False
    checkpoint_steps: Annotated[Natural, _about("steps between checkpoints, for resuming")] = 500
    seed: Annotated[Seed, _about("seed of head initialisation and document order")] = 0


class SaesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One sparse autoencoder per layer, trained on the residuals of the training documents."""

    path: Annotated[
        str,
        _about(
            "directory with one SAE per layer; or hf://OWNER/REPOSITORY[@REVISION], or saelens://RELEASE, "
            "which are downloaded"
        ),
    ] = "saes"
    select: Annotated[
        str, _about('one SAE of several per layer, such as "width_16k l0~70" or "trainer_3"; empty = all SAEs')
    ] = ""
    converter: Annotated[
        str, _about('your own reader of SAE files, as "module:function"; empty = the formats of docs/saes.md')
    ] = ""
    architecture: Annotated[Literal["relu", "batch_topk"], _about("relu = ReLU with an L1 penalty")] = "relu"
    layers: Annotated[list[Annotated[int, Meta(ge=0)]], _about("layers to train or index; empty = all")] = []
    d_sae: Annotated[Natural, _about("features per layer")] = 9216
    k: Annotated[Natural, _about("mean number of active features per position (batch_topk)")] = 64
    l1_coefficient: Annotated[
        NonNegative, _about("weight of the L1 penalty (relu); with a target_l0, its first value")
    ] = 1.44
    target_l0: Annotated[
        NonNegative, _about("active features per position that the weight is adapted to (relu); 0 = fixed weight")
    ] = 0
    learning_rate: Annotated[Positive, _about("Adam learning rate")] = 1e-3
    batch_size: Annotated[Natural, _about("positions per step")] = 512
    epochs: Annotated[Natural, _about("passes over the residuals")] = 10
    l1_warmup: Annotated[Fraction, _about("share of all steps over which the L1 penalty rises from 0")] = 0.05
    learning_rate_decay: Annotated[
        Fraction, _about("share of all steps, at the end, over which the rate falls to 0")
    ] = 0.2
    buffer_positions: Annotated[Natural, _about("residuals in memory per layer, to shuffle across documents")] = 65_536
    precision: Annotated[
        Literal["auto", "float32", "tf32", "bfloat16"],
        _about("matrix products: auto = bfloat16 on a GPU, float32 on a CPU"),
    ] = "auto"
    compile: Annotated[bool, _about("compute gradients with torch.compile: slower to start")] = False
    checkpoint_steps: Annotated[Natural, _about("steps between checkpoints, for resuming")] = 1000
    seed: Annotated[Seed, _about("seed of initialisation and shuffling")] = 0


class IndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Documents and statistics of a run."""

    run: Annotated[str, Meta(pattern=NAME_PATTERN, description="name of the run in the store")] = "run"
    store: Annotated[str, _about("directory of the store, which many runs share")] = "store"
    split: Annotated[Literal["eval", "train", "all"], _about("documents to index: eval, train or all")] = "eval"
    pooling: Annotated[Pooling, _about("default pooling of rankings: head, max or mean")] = "max"
    variety_threshold: Annotated[Positive, _about("Cohen's d above which a label counts towards label variety")] = 1.0
    top_tokens: Annotated[Natural, _about("strongest positions stored per feature")] = 100
    shard_documents: Annotated[
        int,
        Meta(
            ge=0,
            description="documents per shard; a killed `index` loses at most three shards; "
            "0 = 1,024 on a GPU, 128 on a CPU",
        ),
    ] = 0
    batch_tokens: Annotated[Natural, _about("tokens per forward pass, padding included")] = 8192
    merge_memory_gb: Annotated[Positive, _about("memory of the merge of one layer, in GB; no result depends on it")] = (
        0.5
    )
    explained_variance_documents: Annotated[
        Natural, _about("evaluation documents to measure explained variance on")
    ] = 256
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], _about("auto = bfloat16 on a GPU, float32 on a CPU")] = (
        "auto"
    )
    device: Annotated[str, _about("auto, cpu, cuda or cuda:N")] = "auto"


LogFormat = Literal["text", "json", "off"]
Warm = Literal["off", "queries", "models"]


class ServiceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Address, limits and logs of the API."""

    host: Annotated[str, _about("address to bind")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="port to bind")] = 8765
    hosts: Annotated[list[str], _about("names of the server beside localhost, host; * = any")] = []
    workers: Annotated[int, Meta(ge=1, le=64, description="worker processes")] = 1
    keys: Annotated[str, _about("file of API keys; if it exists, every request needs a key")] = "keys.json"
    requests_per_second: Annotated[NonNegative, _about("limit per key, or per address without keys; 0 = none")] = 0
    max_requests: Annotated[Natural, _about("requests in progress per worker; more get status 503")] = 256
    max_body_bytes: Annotated[Natural, _about("largest body of a request")] = 10_000_000
    max_requests_per_client: Annotated[
        Natural, _about("requests in progress per key or address, and per worker; more get status 429")
    ] = 64
    max_text_tokens: Annotated[
        Natural, _about("tokens of a request to classify, encode or attribute, times its passes")
    ] = 65_536
    max_job_tokens: Annotated[Natural, _about("tokens of the documents of a knockout, times its passes")] = 20_000_000
    job_seconds: Annotated[Positive, _about("time limit of a knockout, waiting included")] = 3600
    job_days: Annotated[Natural, _about("time for which the states of knockouts without a result are stored")] = 30
    job_bytes: Annotated[Natural, _about("size of all stored states of knockouts, the newest first")] = 67_108_864
    max_result_bytes: Annotated[Natural, _about("largest result of a SQL query, in its format")] = 32_000_000
    body_seconds: Annotated[Positive, _about("time limit for receiving a request")] = 20
    cors_origins: Annotated[list[str], _about("origins of web pages that may send requests; empty = none")] = []
    trusted_proxies: Annotated[list[str], _about("addresses whose X-Forwarded-For is trusted; empty = none")] = []
    log: Annotated[LogFormat, _about("one line per request: text, json or off")] = "text"
    warm: Annotated[Warm, _about("newest run at start: compute slow queries; models = and load its models")] = "queries"
    preload: Annotated[list[str], _about("runs whose models are loaded at start; /readyz waits for them")] = []
    mcp: Annotated[bool, _about("tools for agents at /mcp, if the extra `mcp` is installed")] = False
    telemetry: Annotated[bool, _about("OpenTelemetry traces, if its packages are installed")] = False


class ExplainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The language model that explains features: any server of OpenAI's chat completions."""

    base_url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[^/@\s]+(/\S*)?$", description="address of the server, up to /v1; see docs/explain.md"
        ),
    ] = "http://127.0.0.1:8000/v1"
    model: Annotated[str, _about("name of the model on the server; empty = the only one that the server has")] = ""
    key_variable: Annotated[
        str,
        Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="environment variable that holds the server's API key"),
    ] = "TEGAKARI_EXPLAIN_KEY"
    send_texts: Annotated[
        bool, _about("send excerpts of documents to a server on another machine; one on this machine always gets them")
    ] = False
    language: Annotated[Literal["en", "ja"], _about("language of the explanations: en or ja")] = "en"
    contexts: Annotated[int, Meta(ge=1, le=60, description="excerpts per prompt")] = 20
    concurrency: Annotated[int, Meta(ge=1, le=256, description="requests in progress")] = 8
    timeout: Annotated[Positive, _about("time limit of an answer, in seconds")] = 120
    retries: Annotated[
        int, Meta(ge=0, le=20, description="repeated requests after a failure that can pass, such as status 429 or 503")
    ] = 5
    max_requests: Annotated[Natural, _about("limit of requests per command, retries included")] = 10_000
    max_tokens: Annotated[Natural, _about("limit of tokens per command, prompts and answers together")] = 20_000_000


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All sections of `tegakari.toml`."""

    corpus: CorpusConfig = msgspec.field(default_factory=CorpusConfig)
    classifier: ClassifierConfig = msgspec.field(default_factory=ClassifierConfig)
    saes: SaesConfig = msgspec.field(default_factory=SaesConfig)
    index: IndexConfig = msgspec.field(default_factory=IndexConfig)
    service: ServiceConfig = msgspec.field(default_factory=ServiceConfig)
    explain: ExplainConfig = msgspec.field(default_factory=ExplainConfig)
