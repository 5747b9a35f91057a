"""Scores of a classifier over the documents of a run."""

from __future__ import annotations
