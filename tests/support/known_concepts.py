"""Concepts whose written forms the tokenizer of the small case knows."""

from __future__ import annotations

from tegakari.schemas.variants import Concept, WrittenForm

CONCEPTS = [
    Concept(
        concept=name,
        forms=[WrittenForm(form=form, sentence=f"{form}です。ありがとう") for form in forms],
        frame="今日は{form}です。",
    )
    for name, forms in {
        "会議": ("会議", "MTG", "打ち合わせ"),
        "笑顔": ("笑顔", "楽しい"),
        "食": ("味噌汁", "軽トラ"),
    }.items()
]
