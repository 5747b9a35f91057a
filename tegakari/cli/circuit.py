"""`tegakari circuit`: the attention and MLP blocks that carry a classifier's predictions."""

from __future__ import annotations

from typing import Any

from tegakari.analyses.formatting import interval
from tegakari.cli.options import (
    CsvOption,
    DeviceOption,
    JsonOption,
    OwnScaleOption,
    PlotOption,
    RunsOption,
    StoreDirectoryOption,
    open_runs,
    store_directory,
)
from tegakari.cli.output import page_of, print_json, print_table, print_text, print_written, progress, write_csv
from tegakari.cli.struct_options import checked_settings, struct_options
from tegakari.extras import needs_extra
from tegakari.schemas.circuit import CircuitResult, CircuitSettings


@needs_extra("study")
@struct_options(CircuitSettings, "pairs", "min_cosine", "threshold", "membership", "min_gain", "documents", "seed")
def circuit(
    runs: RunsOption,
    *,
    settings: dict[str, Any],
    plot: PlotOption = None,
    own_scale: OwnScaleOption = False,
    csv: CsvOption = None,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Find the components that carry predictions, by activation patching at the last position, as the study does.

    A result is stored, and read when the same is requested again. --plot draws the study's Figure 1, --csv writes the
    components.

    Example: [bold]tegakari circuit --run demo-jpn --run demo-base --plot circuit.svg[/]
    """
    from tegakari.analyses.circuit import circuit as find_circuit
    from tegakari.analyses.engine.model_loader import model_loader

    request = checked_settings(CircuitSettings, settings, command="circuit")
    directory, opened = store_directory(store), open_runs(runs, store)
    with progress() as bars:
        results = [find_circuit(directory, run, model_loader(run, device), request, progress=bars) for run in opened]
    if plot:
        from tegakari.analyses.circuit.plots import effect_maps
        from tegakari.analyses.svg import save_svg

        save_svg(effect_maps(results, own_scale=own_scale), plot)
        print_written(plot)
    if csv:
        write_csv(csv, [component for result in results for component in result.components])
    if json:
        print_json(page_of(results))
        return
    for result in results:
        _print(result)


def _print(result: CircuitResult) -> None:
    components = [row for row in result.components if row.in_robust_circuit or row.in_study_circuit]
    count = sum(component.in_circuit for component in components)
    print_table(
        f"Circuit of {result.run}: {count} of {len(result.components)} components ({result.settings.membership})",
        ("layer", "component", "ratio of means (95 %)", "mean of ratios (95 %)", "median", "robust", "study"),
        [
            (
                str(component.layer),
                component.component,
                interval(component.effect),
                interval(component.study_effect),
                f"{component.median_effect:.3f}",
                "yes" if component.in_robust_circuit else "no",
                "yes" if component.in_study_circuit else "no",
            )
            for component in components
        ],
    )
    shortage = "" if result.pairs == result.settings.pairs else f" ({result.settings.pairs} requested)"
    lines = [
        f"{result.pairs} pairs{shortage} of {result.pair_documents} documents, {result.no_gain} without a gain, "
        f"{result.small_gain} with a gain below 0.05, {result.below_min_gain} below the minimum gain",
        f"total effect {interval(result.total)}",
    ]
    if result.warning:
        lines.append(result.warning)
    bands = [f"{band.band} {band.first}-{band.last}: {band.share.value:.0%}" for band in result.bands if band.share]
    if bands:
        lines.append(f"share of layers: {', '.join(bands)}")
    if result.labels_without:
        lines.append(f"labels without a correctly predicted document: {', '.join(result.labels_without)}")
    lines += [
        f"ablated by {ablation.by}, {result.documents} documents: sufficiency {interval(ablation.sufficiency)}, "
        f"necessity {interval(ablation.necessity)}"
        for ablation in result.ablated
    ]
    rounding = f"rounding, as an effect: {result.rounding:.1g} in float32"
    if result.run_dtype_rounding is not None:
        rounding += f", in which effects are computed; {result.run_dtype_rounding:.1g} in the dtype of the run"
    lines.append(rounding)
    for line in lines:
        print_text(line)
