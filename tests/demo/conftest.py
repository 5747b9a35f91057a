"""One tokenizer and one thread for all tests of the demo: more threads are slower at these sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tegakari.demo.languages import language_mix, unlabelled_posts
from tegakari.demo.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([*unlabelled_posts(0, 4000), *language_mix(0, 300, japanese=0.0)], 2400, alphabet=600)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
