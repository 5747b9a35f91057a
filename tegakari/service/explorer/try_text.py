"""Page that runs the classifier and the SAEs of a run on a text of the reader's own."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.di import NamedDependency

from tegakari.service.explorer.page import page, render
from tegakari.service.explorer.search import RunChoice
from tegakari.service.http.etags import open_run
from tegakari.store import Store, queries


@page("/try", changes=True)
def try_page(store: NamedDependency[Store], request: Request[Any, Any, Any], run: RunChoice = None) -> Response[str]:
    """A form for a text; a script sends it to the API and shows the answer."""
    names = store.names()
    chosen = open_run(store, run or names[0]) if run or names else None
    return render(request, "try", names=names, run=queries.run_summary(chosen) if chosen else None)


HANDLERS = (try_page,)
