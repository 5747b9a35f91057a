"""The peer of `benchmarks.api`: the same route with FastAPI, orjson and asyncpg on PostgreSQL.

Run in an environment of its own: python peer_api.py SOCKET_DIRECTORY PORT WORKERS
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # pyright: ignore[reportMissingImports] - this and FastAPI are in the environment of the peer alone
import uvicorn
from fastapi import FastAPI  # pyright: ignore[reportMissingImports]
from fastapi.responses import ORJSONResponse  # pyright: ignore[reportMissingImports]

LABEL_FEATURES = """
SELECT t.layer, t.feature, d_head, mean_head, sd_head, variety_head, density, max_activation, top_tokens
FROM (SELECT layer, feature, d_head, mean_head, sd_head FROM feature_labels
      WHERE label_id = (SELECT label_id FROM labels WHERE label = $1)
      ORDER BY d_head DESC, layer, feature LIMIT $2) t
JOIN features f ON f.layer = t.layer AND f.feature = t.feature ORDER BY d_head DESC, t.layer, t.feature
"""

NAMES = ("layer", "feature", "d", "mean", "sd", "variety", "density", "max_activation", "top_tokens")


@asynccontextmanager
async def pool(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        host=os.environ["PEER_SOCKETS"], user="tegakari", database="postgres", min_size=8, max_size=8
    ) as connections:
        app.state.pool = connections
        yield


app = FastAPI(lifespan=pool)


@app.get("/labels/{label}/features")
async def features(label: str, limit: int = 50) -> ORJSONResponse:
    rows = await app.state.pool.fetch(LABEL_FEATURES, label, limit)
    return ORJSONResponse({"items": [dict(zip(NAMES, row, strict=True)) for row in rows], "next": None})


if __name__ == "__main__":
    os.environ["PEER_SOCKETS"] = sys.argv[1]
    uvicorn.run(
        "peer_api:app",
        port=int(sys.argv[2]),
        workers=int(sys.argv[3]),
        access_log=False,
        log_level="warning",
        app_dir=os.path.dirname(__file__),  # noqa: PTH120
    )
