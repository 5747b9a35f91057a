"""One address of every page of the explorer, of the rows that a served store has."""

from __future__ import annotations

from typing import Any

import httpx

from tegakari.service.explorer.addresses import confusion_page, document_page, feature_page, label_page, run_page


def explorer_pages(client: httpx.Client) -> dict[str, str]:
    """Name of each page -> its address.

    Args:
        client: of a service whose store has a run.

    Returns:
        Pages of the last run by name, of its label with most specific features, and of a document that is predicted
        wrong if there is one. `compare` is left out if the store has a single run, `confusion` if nothing is
        confused, `knockout` if none is stored.
    """
    runs = [row["run"] for row in _get(client, "/v1/runs")["items"]]
    run = max(runs)
    labels = _get(client, f"/v1{run_page(run)}/labels")["items"]
    label = max(labels, key=lambda row: (row["specific_features"], row["shared_features"], row["label"]))["label"]
    feature = _get(client, f"/v1{label_page(run, label)}/features", limit=1)["items"][0]
    confusions = [
        (row["documents"], name["label"], row["predicted"])
        for name in labels[:20]
        for row in _get(client, f"/v1{label_page(run, name['label'])}")["predictions"]
        if row["predicted"] != name["label"]
    ]
    of_document: dict[str, Any] = {"label": label}
    pages = {
        "runs": "/",
        "run": run_page(run),
        "label": label_page(run, label),
        "feature": feature_page(run, feature["layer"], feature["feature"]),
        "neighbours": f"{feature_page(run, feature['layer'], feature['feature'])}/neighbours",
        "search": f"/search?run={run}&q={httpx.URL('').copy_with(params={'q': label}).query.decode()[2:]}",
        "try": "/try",
        "jobs": "/jobs",
        "problem": "/runs/none",
    }
    if confusions:
        _, label, predicted = max(confusions)
        of_document = {"label": label, "predicted": predicted}
        pages["confusion"] = confusion_page(run, label, predicted)
    document = _get(client, f"/v1{run_page(run)}/documents", limit=1, **of_document)["items"][0]["document"]
    pages["document"] = document_page(run, document)
    pages["similar"] = f"{pages['document']}/similar"
    if knockouts := _get(client, "/v1/knockouts", state="done", limit=1)["items"]:
        pages["knockout"] = f"/knockouts/{knockouts[0]['id']}"
    if len(runs) > 1:
        pages["compare"] = f"/compare?run={min(runs)}&run={run}"
    return pages


def _get(client: httpx.Client, path: str, **options: Any) -> Any:
    return client.get(path, params=options or None).raise_for_status().json()
