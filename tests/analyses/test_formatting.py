"""Figures as text: digits, signs, missing figures, and the cells of a knockout."""

from __future__ import annotations

import subprocess
import sys

from tegakari.analyses.formatting import MISSING, difference, interval, knockout_cells
from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.knockout import Control, KnockoutResult, KnockoutSettings, RemovedFeature, Timings


def test_intervals():
    figure = Interval(value=0.8404, low=0.82, high=0.86)
    assert interval(figure) == "0.840 (0.820 to 0.860)"
    assert interval(figure, 1) == "0.8 (0.8 to 0.9)"
    assert interval(None) == MISSING == "-"
    assert difference(Interval(value=0.012, low=-0.003, high=0.027)) == "+0.012 (-0.003 to +0.027)"


def knockout(layers: tuple[int, ...], control: Control | None) -> KnockoutResult:
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
        features=[RemovedFeature(layer=layer, feature=0, d=None, density=0.1) for layer in layers],
        documents=10,
        truncated=0,
        recall_before=0.93,
        recall_after=0.349,
        delta=-58.1,
        delta_low=-63.0,
        delta_high=-52.94,
        macro_f1_before=None,
        macro_f1_after=None,
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
        recalls=[], delta_mean=-1.24, delta_sd=0.8, macro_f1_mean=None, macro_f1_sd=None, density_mean=0.1
    )
    cells = knockout_cells(knockout((2, 1, 2), control))
    assert cells == ("1, 2", "0.93 → 0.35", "-58.1 (-63.0 to -52.9)", "-1.2 ± 0.8", MISSING)
    assert knockout_cells(knockout((), None)).layer == "5"


def test_formatting_needs_neither_numpy_nor_torch():
    program = "import sys, tegakari.analyses.formatting; print({'numpy', 'torch', 'pyarrow'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"
