"""Scores of a run's classifier, kept in memory, for the route and the pages."""

from __future__ import annotations

from tegakari.analyses.classification import classification_without_baseline, majority_macro_f1
from tegakari.service.engine.result_cache import cached_per_run

scores_of_run = cached_per_run(classification_without_baseline)
majority_of_run = cached_per_run(majority_macro_f1)
