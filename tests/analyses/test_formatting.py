"""Figures as text: digits, signs, missing figures, and the cells of a knockout."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from tegakari.analyses.formatting import (
    MISSING,
    decimal,
    default_label_sentence,
    difference,
    interval,
    knockout_cells,
    knockout_mean_sentence,
    percent,
    sae_quality,
)
from tegakari.analyses.knockout.default_label import DefaultLabel
from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.knockout import (
    Control,
    KnockoutMean,
    KnockoutResult,
    KnockoutSettings,
    Margin,
    RemovedFeature,
    SaeQuality,
    Timings,
)


def test_halves_are_rounded_away_from_zero():
    assert [decimal(value, 2) for value in (0.125, 0.375, -0.125, 2.675)] == ["0.13", "0.38", "-0.13", "2.68"]
    assert [decimal(value, 0) for value in (0.5, 1.5, 2.5, -2.5)] == ["1", "2", "3", "-3"]
    assert decimal(100 * 0.575, 0) == "58"  # 57.49999999999999 in binary
    assert [decimal(value, 1) for value in (-0.04, 0.0, 1e-14, 12345678.25)] == ["0.0", "0.0", "0.0", "12345678.3"]
    assert [decimal(value, 1, signed=True) for value in (-0.04, 0.05, -0.05)] == ["+0.0", "+0.1", "-0.1"]
    assert [decimal(value, 3) for value in (float("nan"), float("inf"))] == ["nan", "inf"]
    assert (percent(0.345), percent(0.1235, 1), percent(None)) == ("35%", "12.4%", MISSING)


def test_intervals():
    figure = Interval(value=0.8404, low=0.82, high=0.86)
    assert interval(figure) == "0.840 (0.820 to 0.860)"
    assert interval(figure, 1) == "0.8 (0.8 to 0.9)"
    assert interval(None) == MISSING == "-"
    assert difference(Interval(value=0.012, low=-0.003, high=0.027)) == "+0.012 (-0.003 to +0.027)"


def knockout(
    layers: tuple[int, ...], control: Control | None, net: Interval | None = None, margin: Interval | None = None
) -> KnockoutResult:
    provenance = Provenance(
        run="a",
        fingerprint="",
        classifier_sha256="",
        saes_sha256="",
        corpus_sha256="",
        dtype="",
        device="",
        versions={},
    )
    return KnockoutResult(
        run="a",
        settings=KnockoutSettings(layer=5),
        features=[
            RemovedFeature(layer=layer, feature=0, cohens_d=None, documents_active=None, density=0.1)
            for layer in layers
        ],
        documents=10,
        truncated=0,
        recall_before=0.93,
        recall_after=0.349,
        delta=-58.1,
        delta_low=-63.0,
        delta_high=-52.94,
        macro_f1_before=None,
        net=net,
        beyond_control=net.high < 0 if net else None,
        margin=Margin(
            before=4.0, after=1.0, net=margin, told_apart=True, beyond_control=margin.high < 0 if margin else None
        ),
        macro_f1_partial_ablation=None,
        saes=[],
        control=control,
        density_control=None,
        recall_reconstructed=None,
        lost=[],
        gained=0,
        survived=[],
        outcomes=None,
        provenance=provenance,
        timings=Timings(before=0, after=0, total=0, together=1, kept=False),
    )


def test_cells_of_a_knockout():
    control = Control(
        recalls=[],
        delta_mean=-1.24,
        delta_sd=0.8,
        macro_f1_partial_ablation_mean=None,
        macro_f1_partial_ablation_sd=None,
        density_mean=0.1,
    )
    cells = knockout_cells(knockout((2, 1, 2), control))
    assert cells == ("1, 2", "0.93 → 0.35", "-58.1 (-63.0 to -52.9)", *[MISSING] * 3, "-1.2 ± 0.8", MISSING)
    effect, noise = Interval(value=-57.0, low=-63.0, high=-50.0), Interval(value=-3.0, low=-8.04, high=2.0)
    assert knockout_cells(knockout((1,), control, effect)).net == "-57.0 (-63.0 to -50.0)"
    assert knockout_cells(knockout((1,), control, effect)).beyond_control == "yes"
    weak = knockout_cells(knockout((1,), control, noise))
    assert (weak.net, weak.beyond_control) == ("-3.0 (-8.0 to +2.0)", "no")
    lower = knockout_cells(knockout((1,), control, noise, Interval(value=-3.189, low=-3.69, high=-2.7)))
    assert lower.beyond_control == "margin alone"
    assert lower.margin == "-3.19 (-3.69 to -2.70)"
    assert knockout_cells(knockout((), None)).layer == "5"


def test_means_say_how_many_labels_take_part():
    effect = Interval(value=-57.0, low=-63.0, high=-50.0)
    some = KnockoutMean(
        labels=16, beyond_control=9, by_margin_alone=0, shown=True, points=effect, net=effect, net_of_all=effect
    )
    text = "-57.0 (-63.0 to -50.0)"
    assert knockout_mean_sentence(some) == (
        f"9 of 16 labels are beyond their control: mean {text} points, {text} net; of all labels {text} net"
    )
    chance = KnockoutMean(
        labels=16, beyond_control=1, by_margin_alone=2, shown=False, points=None, net=None, net_of_all=effect
    )
    assert knockout_mean_sentence(chance) == (
        "1 of 16 labels are beyond their control, no more than chance may make: no mean of them; 2 more by their "
        f"margin alone; of all labels {text} net"
    )
    none = msgspec.structs.replace(chance, beyond_control=0, by_margin_alone=0)
    assert knockout_mean_sentence(none) == f"0 of 16 labels are beyond their control; of all labels {text} net"


def test_the_default_label_is_named_with_its_margin():
    result = knockout((1,), None, Interval(value=0.0, low=-9.0, high=9.0), Interval(value=-3.189, low=-3.69, high=-2.7))
    result = msgspec.structs.replace(result, settings=KnockoutSettings(label="料理", layer=1))
    assert default_label_sentence(DefaultLabel(result, 38, 79)) == (
        "other labels lose more documents to 料理 (38 of 79) than to any other: the classifier tends to predict it "
        "where features are missing, so that its recall need not fall without its own; its margin does, "
        "-3.19 (-3.69 to -2.70) logits net of its control"
    )
    weak = msgspec.structs.replace(result, margin=msgspec.structs.replace(result.margin, beyond_control=False))
    assert "its margin shows no effect either" in default_label_sentence(DefaultLabel(weak, 38, 79))


def test_sae_quality():
    quality = SaeQuality(
        layer=2,
        features=512,
        dead_share=0.345,
        l0=15.23,
        explained_variance=0.9124,
        explained_variance_all=None,
    )
    assert sae_quality(quality) == "explained variance 0.912 (all positions -), L0 15.2, 35% of 512 features dead"


def test_formatting_needs_neither_numpy_nor_torch():
    program = "import sys, tegakari.analyses.formatting; print({'numpy', 'torch', 'pyarrow'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
