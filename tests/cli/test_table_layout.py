"""Tables in 80, 120 and 200 cells, and without a limit: nothing is too wide, split, or mistaken for a mark."""

from __future__ import annotations

import random
import re

import pytest
from rich.cells import cell_len

from tegakari.analyses.visible_text import visible_token
from tegakari.cli.table_layout import table_layout, wrap
from tegakari.cli.visible import Context, shorten, shorten_left, visible

TEXTS = ("軽トラで買い物", "味噌汁 豆腐", "a plain text of words", "😀 ⟦mark⟧", "x\ty\nz", "")


def drawn_cell(draw: random.Random, kind: str) -> object:
    match kind:
        case "integer":
            return draw.randrange(10 ** draw.randrange(1, 9))
        case "float":
            return draw.uniform(-1000, 1000)
        case "interval":
            return f"{draw.uniform(-99, 99):+.1f} ({draw.uniform(-99, 99):+.1f} to {draw.uniform(-99, 99):+.1f})"
        case "text":
            return " ".join(draw.choices(TEXTS, k=draw.randrange(12)))
        case "tokens":
            return draw.choices(TEXTS, k=draw.randrange(9))
        case _:
            return Context(draw.choice(TEXTS) * 3, draw.choice(TEXTS), draw.choice(TEXTS) * 3)


KINDS = ("integer", "float", "interval", "text", "tokens", "context")


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("seed", range(30))
def test_drawn_tables_fit_and_split_no_number(width: int, seed: int):
    draw = random.Random(seed)
    kinds = draw.choices(KINDS, k=draw.randrange(1, 14))
    headings = [f"heading {kind} {place}" for place, kind in enumerate(kinds)]
    rows = [[drawn_cell(draw, kind) for kind in kinds] for _ in range(6)]
    layout = table_layout(headings, rows, width)
    lines = [line.plain for line in layout.lines]
    assert all(cell_len(line) <= width for line in lines)
    shown = [place for place, heading in enumerate(headings) if heading not in layout.left_out]
    assert shown[0] == 0
    whole = [line.plain for line in table_layout(headings, rows, None).lines]
    assert len(whole) == len(rows) + 2
    numbers = re.compile(r"(?<![\w.,])[-+]?[\d,]*\.?\d+(?![\w.,…])")
    for narrow, wide in zip(lines[-len(rows) :], whole[-len(rows) :], strict=True):
        assert set(numbers.findall(narrow)) <= set(numbers.findall(wide))
    for place in shown:
        if kinds[place] in ("integer", "float", "interval"):
            for row, line in zip(rows, lines[-len(rows) :], strict=True):
                value = row[place]
                text = value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
                assert text in line


def test_the_columns_of_lowest_priority_go_first():
    rows = [("post-00743", "車" * 60, 0.25, 0.5)]
    headings = ("document", "text", "mean activation", "sd")
    assert table_layout(headings, rows, 80).left_out == []
    assert table_layout(headings, rows, 40, ("mean activation",)).left_out == ["mean activation"]
    assert table_layout(headings, rows, 30).left_out == ["mean activation", "sd"]


def test_columns_line_up_below_wide_characters():
    layout = table_layout(("label", "n"), [("自動車", 1), ("abc", 20)], 80)
    assert [line.plain for line in layout.lines] == ["label    n", "──────  ──", "自動車   1", "abc     20"]


def test_a_token_stays_visible_in_a_narrow_context():
    context = Context("前" * 50, "\n味噌", "後" * 50)
    assert context.fit(21).plain == "…前前前⟦⏎味噌⟧後後後…"
    assert cell_len(context.fit(21).plain) <= 21


def test_no_text_looks_like_a_mark():
    context = Context("a ⟦b⟧ ", "⟧", "")
    assert context.fit(None).plain == "a \\u27e6b\\u27e7 ⟦\\u27e7⟧"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a⏎b"),
        ("a\r\nb", "a⏎b"),
        ("a\tb", "a⇥b"),
        ("a\x1b[31m", "a␛[31m"),
        ("\x00", "␀"),
        ("a\u202eb", "a\ufffdb"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str):
    assert visible(text) == shown


def test_spaces_alone_can_be_seen():
    assert [visible_token(token) for token in (" ", "  ", " a", "\n")] == ["␣", "␣␣", " a", "⏎"]


@pytest.mark.parametrize(
    ("text", "width", "beginning"),
    [
        ("recall 0.450 of 40", 18, "recall 0.450 of 40"),
        ("recall 0.450 of 40", 11, "recall…"),
        ("recall 0.450 of 40", 13, "recall 0.450…"),
        ("12345678", 5, "…"),
        ("味噌汁を飲む", 7, "味噌汁…"),
        ("a longer sentence", 11, "a longer…"),
    ],
)
def test_a_text_is_shortened_between_words_and_numbers(text: str, width: int, beginning: str):
    assert shorten(text, width) == beginning


def test_a_text_is_shortened_on_the_left():
    assert shorten_left("あいうえお", 7) == "…うえお"
    assert shorten_left("costs 1,234.5", 5) == "…"


def test_sentences_break_between_words():
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("/a/path/that/is/longer no", 8, "  ") == ["/a/path/that/is/longer", "  no"]
    assert wrap("味噌汁を飲む", 6) == ["味噌汁", "を飲む"]
