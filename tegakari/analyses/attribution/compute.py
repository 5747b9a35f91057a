"""Attribution of a text's label: candidates, single ablations, the greedy set and its control, strengths of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from tegakari.analyses.attribution.ablations import FeatureNumbers, draw_substitutes, greedy_set, margins_of
from tegakari.analyses.attribution.candidates import ActiveFeatures, active_features
from tegakari.analyses.attribution.onset import onsets, strengths
from tegakari.analyses.attribution.settings import AttributionInput
from tegakari.analyses.engine.prefix_cache import PrefixRequest
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout.forward import FeatureAblation
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.prefix import Prefix
from tegakari.models.tokens import Tokenized
from tegakari.schemas.attribution import (
    Attribution,
    AttributionControl,
    AttributionSettings,
    AttributionStep,
    FeatureAttribution,
    TokenAttribution,
)
from tegakari.schemas.errors import QueryError
from tegakari.schemas.inference import LabelScore
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run, queries
from tegakari.store.queries.rows import feature_rows

STRENGTH_DECIMALS = 4
LOGIT_DECIMALS = 4


def attribution(
    models: RunModels, run: Run, inputs: AttributionInput, progress: Progress = NoProgress()
) -> Attribution:
    """Attribute the label of one text to its tokens and features.

    Args:
        models: of the run.
        run: published.
        inputs: from `attribution_input`.
        progress: advanced after each step of the models.

    Raises:
        QueryError: the text has no token that is not special.
        MemoryShortError: it would take more memory than is free.
        KernelError: a residual is not finite.
    """
    progress.stage(f"{run.name}: attribution")
    return _TextAttribution(models, run, inputs, progress).result()


class _TextAttribution:
    """One text with the passes over it."""

    def __init__(self, models: RunModels, run: Run, inputs: AttributionInput, progress: Progress) -> None:
        self.models, self.run, self.progress = models, run, progress
        self.settings: AttributionSettings = inputs.settings
        self.text = inputs.text
        self.tokens = self._tokenized()
        self.prefix = self._prefix()
        self.logits = self.prefix.logits.cpu().numpy()
        self.predicted = int(self.logits[0].argmax())
        label = self.settings.label
        self.label = self.predicted if label is None else models.classifier.labels.index(label)
        others = np.where(np.arange(self.logits.shape[1]) == self.label, -np.inf, self.logits[0])
        self.runner_up = int(others.argmax())
        self.active = active_features(models, self.prefix, self._layers, self.label, self.runner_up, progress)

    @property
    def _layers(self) -> list[int]:
        assert self.settings.layers is not None
        return self.settings.layers

    def _tokenized(self) -> Tokenized:
        (tokens,) = self.models.classifier.tokenize([self.text], partial(self.progress.advance, 0))
        if not tokens.positions:
            raise QueryError(
                f"{self.text[:20]!r} has no token that is not special", field="text", fix="give a text with words"
            )
        return tokens

    def _prefix(self) -> Prefix:
        request = PrefixRequest([self.text], tuple(self._layers), None)
        (batch,) = self.models.prefix_cache.run(
            self.models.classifier,
            request,
            batch_tokens=self.models.batch_tokens,
            on_step=partial(self.progress.advance, 0),
        )
        return batch.prefix

    def logits_of(self, sets: Sequence[FeatureNumbers]) -> np.ndarray:
        """Logits with each set of features ablated, float32 [sets, labels]."""
        edits = []
        for numbers in sets:
            features = tuple(self.active.features[number] for number in numbers)
            layers = tuple(sorted({feature.layer for feature in features}))
            edits.append(FeatureAblation(features, "error_preserving", "all", layers).edits)
        logits = rerun(
            self.models.classifier,
            self.models.saes,
            self.prefix,
            edits,
            max_positions=self.models.max_positions,
            on_step=partial(self.progress.advance, 0),
        )
        return logits[:, 0].cpu().numpy()

    def result(self) -> Attribution:
        settings, names = self.settings, self.models.classifier.labels
        margin = float(margins_of(self.logits, self.label)[0])
        candidates = self.active.strongest(settings.candidates)
        singles = self.logits_of([[number] for number in candidates])
        lost = margin - margins_of(singles, self.label)
        steps = greedy_set(self.logits_of, candidates, singles, self.label, margin, settings.max_set)
        ablated = [step.number for step in steps]
        return Attribution(
            run=self.run.name,
            settings=settings,
            label=names[self.label],
            predicted=names[self.predicted],
            runner_up=names[self.runner_up],
            margin=margin,
            truncated=self.tokens.truncated,
            labels=self._labels(),
            text=self.text,
            tokens=self._tokens(strengths(self.active.activations[:, candidates], lost)),
            active_features=len(self.active.features),
            features=self._features(candidates, singles, lost),
            steps=[
                AttributionStep(
                    layer=self.active.features[step.number].layer,
                    feature=self.active.features[step.number].feature,
                    margin=float(margins_of(step.logits[None], self.label)[0]),
                    predicted=names[int(step.logits.argmax())],
                )
                for step in steps
            ],
            flipped=self.label == self.predicted and bool(steps) and int(steps[-1].logits.argmax()) != self.label,
            control=self._control(ablated, margin),
            provenance=provenance_of(self.run, self.models),
        )

    def _labels(self) -> list[LabelScore]:
        logits = torch.from_numpy(self.logits[0])
        scores = zip(self.models.classifier.labels, logits.tolist(), logits.softmax(0).tolist(), strict=True)
        return [LabelScore(label=label, logit=logit, probability=share) for label, logit, share in scores]

    def _tokens(self, strength: np.ndarray) -> list[TokenAttribution]:
        by_position = dict(zip(self.active.positions.tolist(), strength.tolist(), strict=True))
        return [
            TokenAttribution(
                position=position,
                token=self.text[start:end],
                start=start,
                end=end,
                special=special,
                strength=round(by_position.get(position, 0.0), STRENGTH_DECIMALS),
            )
            for position, ((start, end), special) in enumerate(zip(self.tokens.spans, self.tokens.special, strict=True))
        ]

    def _features(self, candidates: list[int], singles: np.ndarray, lost: np.ndarray) -> list[FeatureAttribution]:
        """The candidates, largest loss of margin first, ties by estimate."""
        active: ActiveFeatures = self.active
        positions = active.positions[onsets(active.activations)]
        features = [active.features[number] for number in candidates]
        places = np.array([queries.feature_place(self.run, feature.layer, feature.feature) for feature in features])
        rows = feature_rows(self.run, places)
        attributions = [
            FeatureAttribution(
                layer=row.layer,
                feature=row.feature,
                margin_lost=round(float(lost[rank]), LOGIT_DECIMALS),
                logit_lost=round(float(self.logits[0, self.label] - singles[rank, self.label]), LOGIT_DECIMALS),
                estimate=round(float(active.estimates[number]), LOGIT_DECIMALS),
                activation=float(active.peaks[number]),
                onset=int(positions[number]),
                onset_token=self._token(int(positions[number])),
                best_label=row.best_label,
                top_tokens=row.top_tokens,
            )
            for rank, (number, row) in enumerate(zip(candidates, rows, strict=True))
        ]
        return sorted(attributions, key=lambda feature: -feature.margin_lost)

    def _token(self, position: int) -> str:
        start, end = self.tokens.spans[position]
        return self.text[start:end]

    def _control(self, ablated: list[int], margin: float) -> AttributionControl | None:
        settings = self.settings
        if not ablated or not settings.draws:
            return None
        sets = draw_substitutes(self.active, ablated, settings.draws, settings.seed)
        if sets is None:
            return None
        logits = self.logits_of([*([drawn[0]] for drawn in sets), *sets])
        lost = np.round(margin - margins_of(logits, self.label), LOGIT_DECIMALS)
        single, together = lost[: len(sets)], lost[len(sets) :]
        return AttributionControl(
            k=len(ablated),
            draws=settings.draws,
            seed=settings.seed,
            single_lost=single.tolist(),
            set_lost=together.tolist(),
            single_mean=float(single.mean()),
            set_mean=float(together.mean()),
        )
