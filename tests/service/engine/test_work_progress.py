"""Progress of work in the model queue: steps, cancellation, batches."""

from __future__ import annotations

import pytest

from tegakari.schemas.progress import CancelledWorkError, Progress
from tegakari.service.engine.work_progress import BatchProgress, WorkProgress


def test_steps_are_counted_per_stage():
    progress = WorkProgress()
    work: Progress = progress
    assert (progress.done, progress.total) == (0, None)
    work.stage("first", 3, done=1)
    work.advance()
    assert (progress.done, progress.total) == (2, 3)
    work.stage("second")
    work.advance(4)
    assert (progress.done, progress.total) == (4, None)


def test_cancelled_work_ends_at_its_next_step():
    progress = WorkProgress()
    progress.stage("batches", 2)
    progress.cancel()
    for step in (progress.advance, progress.check, lambda: progress.stage("more")):
        with pytest.raises(CancelledWorkError):
            step()


def test_short_work_runs_between_steps():
    progress, calls = WorkProgress(), []
    progress.between_steps = lambda: calls.append(progress.done)
    progress.stage("batches", 2)
    progress.advance()
    progress.advance()
    assert calls == [0, 1, 2]


def test_a_batch_advances_all_members_and_is_cancelled_with_the_last():
    members = [WorkProgress(), WorkProgress()]
    batch = BatchProgress(members)
    batch.stage("batches", 5)
    batch.advance(2)
    assert [(member.done, member.total) for member in members] == [(2, 5), (2, 5)]
    members[0].cancel()
    batch.advance()
    members[1].cancel()
    with pytest.raises(CancelledWorkError):
        batch.advance()
