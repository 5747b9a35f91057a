"""A name with a typing error is answered with the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.store import Store
from tegakari.store.disk.layout import check_run_name
from tests.support.factories import LABELS, make_run


def test_a_typing_error_names_what_was_meant(tmp_path: Path):
    make_run(tmp_path, "demo-jpn")
    store = Store(tmp_path)
    with pytest.raises(NotFoundError) as missing_run:
        store.run("demo-jnp")
    assert str(missing_run.value.fix).startswith("did you mean 'demo-jpn'? published runs: demo-jpn")
    with pytest.raises(NotFoundError) as missing_label:
        store.run("demo-jpn").label_id("自動者")
    assert str(missing_label.value.fix).startswith(f"did you mean '{LABELS[0]}'? labels of the run: ")
    with pytest.raises(NotFoundError) as nothing_similar:
        store.run("demo-jpn").label_id("zzzz")
    assert str(nothing_similar.value.fix).startswith("labels of the run: ")


def test_names_with_a_comma_are_several_names():
    with pytest.raises(StoreError) as several:
        check_run_name("a,b")
    assert "--run a --run b" in str(several.value.fix)
