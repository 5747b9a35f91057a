"""One feature of a run."""

from __future__ import annotations

from functools import cached_property
from html import escape

from tegakari.access.html import tokens_in_context
from tegakari.access.rows import Rows
from tegakari.access.source import Source
from tegakari.schemas.api import (
    ActivationHistogram,
    FeatureContext,
    FeatureDetail,
    FeatureEffect,
    FeatureLabel,
    FeatureNeighbour,
    FeatureOnset,
    TopDocument,
    TopToken,
)
from tegakari.schemas.config import Pooling
from tegakari.schemas.explanations import Explanation, NewExplanation, VoteChange
from tegakari.schemas.filters import EffectOrder
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerFeature
from tegakari.schemas.notes import Note, NoteChange
from tegakari.schemas.study import FeatureCues


class Feature:
    """A feature: its statistics, its labels, where it is strongest, and a knockout of it."""

    def __init__(self, source: Source, run: str, layer: int, index: int) -> None:
        self._source = source
        self._run = run
        self.layer = layer
        self.index = index

    @cached_property
    def detail(self) -> FeatureDetail:
        """Statistics, labels by d and the strongest positions, by the run's pooling."""
        return self._source.feature(self._run, self.layer, self.index)

    def labels(self, *, pooling: Pooling | None = None) -> Rows[FeatureLabel]:
        """Labels by Cohen's d for the feature, largest first."""
        listing = self._source.feature_labels(self._run, self.layer, self.index, pooling=pooling)
        return Rows(f"Labels of {self._title}", listing)

    def effects(self, *, order: EffectOrder = "largest") -> Rows[FeatureEffect]:
        """Labels by how much a unit of the feature's activation adds to their logit, directly through norm and head.

        Raises:
            TegakariError: the run or the layer has no label effects.
        """
        listing = self._source.feature_effects(self._run, self.layer, self.index, order=order)
        return Rows(f"Effects of {self._title}", listing)

    def tokens(self) -> Rows[TopToken]:
        """The strongest positions of the corpus, as many as the run keeps, each with the text around it."""
        return Rows(
            f"Strongest positions of {self._title}", self._source.feature_tokens(self._run, self.layer, self.index)
        )

    def contexts(self, *, quantile: int | None = None) -> Rows[FeatureContext]:
        """Windows of tokens around positions, with the activation at every token: the strongest ones and a sample.

        Args:
            quantile: 0: only the strongest positions; 1 (weakest) to 10: only this tenth of the sample.
        """
        listing = self._source.feature_contexts(self._run, self.layer, self.index, quantile=quantile)
        return Rows(f"Contexts of {self._title}", listing)

    def onset(self) -> FeatureOnset:
        """Tokens on which the feature sets in, over its stored strongest positions, and tokens up to there by lift."""
        onset = self._source.feature(self._run, self.layer, self.index, tokens=0, onset=True).onset
        assert onset is not None  # it was requested
        return onset

    def documents(self) -> Rows[TopDocument]:
        """The documents in which the feature is strongest, by the run's pooling."""
        listing = self._source.feature_documents(self._run, self.layer, self.index)
        return Rows(f"Strongest documents of {self._title}", listing)

    def neighbours(
        self, *, in_run: str | None = None, in_layer: int | None = None, limit: int = 20
    ) -> Rows[FeatureNeighbour]:
        """Features with the nearest decoder directions by cosine, of this run or of another."""
        listing = self._source.feature_neighbours(
            self._run, self.layer, self.index, in_run=in_run, in_layer=in_layer, limit=limit
        )
        return Rows(f"Neighbours of {self._title}", listing)

    def histogram(self) -> ActivationHistogram:
        """Distribution of the feature's pooled activations over the documents in which it is active."""
        return self._source.feature_histogram(self._run, self.layer, self.index)

    def cues(self) -> FeatureCues:
        """Tokens on which the feature fires with at least half its maximum."""
        return self._source.feature_cues(self._run, self.layer, self.index)

    def knockout(self, documents_of: str, *, draws: int = 5, seed: int = 0) -> KnockoutResult:
        """Ablate this feature alone and re-run the classifier on the documents of a label."""
        settings = KnockoutSettings(
            features=[LayerFeature(self.layer, self.index)], documents_of=documents_of, draws=draws, seed=seed
        )
        return self._source.knock_out(self._run, settings)

    def notes(self) -> Rows[Note]:
        """Notes of all authors on the feature."""
        listing = self._source.notes(self._run, layer=self.layer, feature=self.index)
        return Rows(f"Notes on {self._title}", listing)

    def write_note(
        self,
        text: str | None = None,
        *,
        tags: list[str] | None = None,
        starred: bool | None = None,
        author: str | None = None,
    ) -> Note:
        """Write a note on the feature, or change it: what is None stays as it is. An empty note is removed.

        Args:
            text: of the note, up to 10,000 characters.
            tags: all tags of the note, up to 20.
            starred: whether the feature has the author's star.
            author: default: the name of the API key of a service, the login name for a directory.

        Raises:
            TegakariError: a value is not allowed, or the service has no keys and there is no author.
        """
        change = NoteChange(text=text, tags=tags, starred=starred, author=author)
        return self._source.write_note(self._run, self.layer, self.index, change)

    def delete_note(self, *, author: str | None = None) -> Note:
        """Delete the note of an author, default as in `write_note`, and return it."""
        return self._source.delete_note(self._run, self.layer, self.index, author=author)

    def explanations(self) -> Rows[Explanation]:
        """Explanations of the feature, the best first: by votes, then those of people, then by score."""
        listing = self._source.feature_explanations(self._run, self.layer, self.index)
        return Rows(f"Explanations of {self._title}", listing)

    def write_explanation(self, text: str, *, language: str | None = None, author: str | None = None) -> Explanation:
        """Add an explanation of the feature; the same text twice is one explanation.

        Args:
            text: one sentence, up to 1,000 characters.
            language: of the text, as ja or en; default: by its letters.
            author: default as in `write_note`.

        Raises:
            TegakariError: a value is not allowed, or the service has no keys and there is no author.
        """
        new = NewExplanation(text=text, language=language, author=author)
        return self._source.write_explanation(self._run, self.layer, self.index, new)

    def vote(self, explanation: str, value: int, *, author: str | None = None) -> Explanation:
        """Give an explanation a vote, and return the explanation.

        Args:
            explanation: its id.
            value: 1: it is right; -1: it is wrong; 0: no vote.
            author: default as in `write_note`.
        """
        change = VoteChange(value=value, author=author)
        return self._source.vote(self._run, self.layer, self.index, explanation, change)

    def delete_explanation(self, explanation: str, *, author: str | None = None) -> Explanation:
        """Delete an explanation of an author, default as in `write_note`, and return it."""
        return self._source.delete_explanation(self._run, self.layer, self.index, explanation, author=author)

    @property
    def _title(self) -> str:
        return f"feature {self.index} of layer {self.layer} in {self._run}"

    def __repr__(self) -> str:
        detail = self.detail
        label = f"; largest d {detail.labels[0].cohens_d:.2f} for {detail.labels[0].label}" if self._has_d() else ""
        return (
            f"<Feature {self.index} of layer {self.layer} in {self._run}: active on {detail.density:.2%} of positions, "
            f"label variety {detail.variety}{label}>"
        )

    def _has_d(self) -> bool:
        return bool(self.detail.labels) and self.detail.labels[0].cohens_d is not None

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{tokens_in_context(self.detail.tokens)}"
