"""Prompts as files in `prompts/`: a version, the instructions, examples, and the template of the question."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tegakari.analyses.explanations.endpoint import Message, Prompt

_DIRECTORY = Path(__file__).parent / "prompts"


class _Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    user: str
    assistant: str


class _PromptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    system: str
    question: str
    """a template of jinja2"""
    examples: list[_Example] = []


class PromptTemplate:
    """A prompt of a file, which values complete."""

    def __init__(self, name: str) -> None:
        """Read `prompts/<name>.toml`."""
        import jinja2  # 0.1 s, and no part of the smallest install

        content = tomllib.loads((_DIRECTORY / f"{name}.toml").read_text(encoding="utf-8"))
        file = msgspec.convert(content, _PromptFile)
        self.version = file.version
        self._beginning = [Message("system", file.system.strip())]
        for example in file.examples:
            self._beginning += [Message("user", example.user.strip()), Message("assistant", example.assistant)]
        # Not escaped as HTML: posts are JSON strings in the prompt.
        environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
        self._question = environment.from_string(file.question.strip())

    def prompt(self, schema: Mapping[str, Any], max_tokens: int, **values: Any) -> Prompt:
        """The conversation that ends with the question.

        Args:
            schema: JSON schema of the answer.
            max_tokens: of the answer.
            values: of the template.
        """
        question = Message("user", self._question.render(values).strip())
        return Prompt(self.version, (*self._beginning, question), schema, max_tokens)


@cache
def prompt_template(name: str) -> PromptTemplate:
    """The prompt of a file, read once."""
    return PromptTemplate(name)
