"""The service returns stored results without models, and without the packages that run them."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.live_case import LiveCase

PROGRAM = """
import json, sys
from pathlib import Path
from litestar.testing import TestClient
from tegakari.service.app import create_app
with TestClient(create_app(Path(sys.argv[1])), base_url="http://127.0.0.1") as client:
    responses = [
        client.post("/v1/runs/small/knockouts", json=json.loads(sys.argv[2])),
        client.get("/v1/knockouts/" + sys.argv[3]),
        client.get("/v1/analyses/" + sys.argv[3]),
        client.get("/v1/runs/small/circuit"),
    ]
loaded = [name for name in ("torch", "transformers", "numba") if name in sys.modules]
print(json.dumps({"statuses": [response.status_code for response in responses], "loaded": loaded}))
"""


def test_a_stored_result_loads_no_package_that_runs_models(live_case: LiveCase):
    settings = {"label": "車/軽", "layer": 1, "k": 2, "draws": 2, "holdout": True, "pooling": None}
    computed = live_case.client.post("/v1/runs/small/knockouts", json=settings, params={"wait": 60})
    assert computed.status_code == 200
    id_ = computed.headers["content-location"].rpartition("/")[2]
    arguments = [str(live_case.store), json.dumps(settings), id_]
    program = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(program.stdout.splitlines()[-1]) == {"statuses": [200, 200, 200, 404], "loaded": []}
