"""One small tokenizer for all tests of this room."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from tegakari.demo.languages import language_mix, unlabelled_posts
from tegakari.demo.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([*unlabelled_posts(0, 4000), *language_mix(0, 300, japanese=0.0)], 2400, alphabet=600)
