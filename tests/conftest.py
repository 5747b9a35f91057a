"""Small real models that many tests share: a tokenizer of Gemma's kind and a random Gemma 2."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Sums depend on the number of threads, and some tests compare runs of several processes. Read by torch at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported, which transformers does

from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

os.environ.setdefault("HF_HUB_OFFLINE", "1")

if TYPE_CHECKING:
    from tests.support.small_case import SmallCase


@pytest.fixture(autouse=True)
def _search_path_of_children() -> Iterator[None]:
    """Commands that run in this process forbid their children to import from the working directory; tests need it."""
    os.environ.pop("PYTHONSAFEPATH", None)
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
"""Their ids are 0 to 3; the 256 byte tokens follow, then what is learned from these texts."""

TEXTS = (
    "今日は会議です。ありがとう",
    "軽トラ 味噌汁 笑顔",
    "よろしくお願いします",
    "とても楽しい一日でした",
    "質問があります",
    "MTG の 打ち合わせ です",
)
LEARNED_TOKENS = 240


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a fast tokenizer: BPE, what it has not learned falls apart into bytes, BOS in front."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Replace(" ", "▁")  # type: ignore[assignment]  # the stub knows the base class only
    trainer = trainers.BpeTrainer(vocab_size=LEARNED_TOKENS, show_progress=False)
    learner.train_from_iterator(TEXTS * 5, trainer)
    learned = json.loads(learner.to_str())["model"]
    tokens = dict.fromkeys([*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]])
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[tuple(merge) for merge in learned["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    path = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="right",
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_gemma2_dir(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a Gemma 2 language model of 3 layers with random weights, and its tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_tokenizer)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=512,  # more rows than tokens, as most models have
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=16,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    path = tmp_path_factory.mktemp("gemma2")
    Gemma2ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def small_case(tiny_gemma2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallCase:
    """A classifier, SAEs and a corpus, ready to be indexed."""
    from tests.support.small_case import make_small_case  # kernels' tests run where the indexer's dependencies are not

    return make_small_case(tmp_path_factory.mktemp("case"), tiny_gemma2_dir)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of an S3 server on loopback; skips without moto and obstore."""
    from tests.support.object_storage import s3_server

    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a new bucket of that server; the environment names the server and credentials."""
    from tests.support.object_storage import environment, make_bucket

    for name, value in environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    bucket = f"b{os.urandom(6).hex()}"
    make_bucket(s3_endpoint, bucket)
    return f"s3://{bucket}/stores/one"
