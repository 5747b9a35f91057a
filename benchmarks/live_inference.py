"""How long the models keep other clients waiting: classification beside the heaviest work that the service accepts.

One client sends the heavy work from 127.0.0.2, another classifies one text every 50 ms from 127.0.0.1, a third reads
/healthz every 20 ms. The server is that of the `tegakari` on the path, so that two versions can be compared.

    python -m benchmarks.live_inference --store demo-work/store --run demo-jpn
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

SECONDS = 12.0
"""Time for which latencies are measured beside each kind of heavy work."""


@contextmanager
def server(store: Path) -> Iterator[str]:
    """`tegakari serve` without keys on a free port: its address."""
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", "serve", "--store", str(store)]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True, cwd=directory) as process,
    ):
        assert process.stderr is not None
        drain: asyncio.Future[str] | None = None
        try:
            url = next(line for line in process.stderr if "http://" in line).partition("url=")[2].split()[0]
            drain = asyncio.get_running_loop().run_in_executor(None, process.stderr.read)
            yield url
        finally:
            process.terminate()
            if drain is not None:
                drain.cancel()


@asynccontextmanager
async def client(url: str, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Requests from an address of the loopback network: the service tells clients without keys apart by it."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    async with httpx.AsyncClient(base_url=url, transport=transport, timeout=300, headers=headers) as opened:
        yield opened


async def latencies(request: Callable[[], Awaitable[httpx.Response]], pause: float, seconds: float) -> dict[str, Any]:
    """Milliseconds of requests, one after the other, and the statuses that were not 200."""
    times: list[float] = []
    refused = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        response = await request()
        times.append(1000 * (time.perf_counter() - start))
        refused += response.status_code != 200
        await asyncio.sleep(pause)
    return {
        "n": len(times),
        "p50": round(float(np.percentile(times, 50)), 1),
        "p99": round(float(np.percentile(times, 99)), 1),
        "max": round(max(times), 1),
        "refused": refused,
    }


async def beside(
    heavy: httpx.AsyncClient, light: httpx.AsyncClient, run: str, work: Callable[[], Awaitable[Any]] | None
) -> dict[str, Any]:
    """Latencies of classification and of /healthz while heavy work runs."""
    task = asyncio.ensure_future(work()) if work else None
    await asyncio.sleep(0.5)
    body = {"texts": ["a short text\nthat is classified"]}
    classify, health = await asyncio.gather(
        latencies(lambda: light.post(f"/v1/runs/{run}/classify", json=body), 0.05, SECONDS),
        latencies(lambda: light.get("/healthz"), 0.02, SECONDS),
    )
    outcome = "none"
    if task:
        outcome = "still running"
        if task.done():
            outcome = str(task.result())
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return {"heavy": outcome, "classify": classify, "healthz": health}


async def cancel_latency(heavy: httpx.AsyncClient, run: str, settings: dict[str, Any], seed: int) -> float:
    """Seconds from the cancellation of a running knockout until the models have classified a text."""
    response = await heavy.post(f"/v1/runs/{run}/knockouts?wait=0", json={**settings, "seed": seed})
    location = response.headers["location"]
    while (await heavy.get(location)).json()["state"] in ("queued", "loading"):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.7)
    start = time.perf_counter()
    assert (await heavy.delete(location)).json()["state"] == "cancelled"
    response = await heavy.post(f"/v1/runs/{run}/classify", json={"texts": ["after"]})
    assert response.status_code == 200, response.text
    return time.perf_counter() - start


async def measure(store: Path, run: str) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with server(store) as url:
        async with client(url, "127.0.0.2") as heavy, client(url, "127.0.0.1") as light:
            base = f"/v1/runs/{run}"
            for _ in range(3):
                (await light.post(f"{base}/classify", json={"texts": ["load"]})).raise_for_status()
            labels = (await light.get(f"{base}/labels")).json()["items"]
            layer = (await light.get(base)).json()["saes"]["layers"][0]
            knockout = {"label": labels[0]["label"], "layer": layer, "k": 4, "draws": 100}
            texts = [item["text"] for item in (await light.get(f"{base}/documents?limit=250")).json()["items"]]
            removals = {**knockout, "texts": texts}

            figures["alone"] = await beside(heavy, light, run, None)

            async def job(settings: dict[str, Any]) -> Any:
                body = await asyncio.to_thread(lambda: json.dumps(settings).encode())
                response = await heavy.post(f"{base}/knockouts?wait=0", content=body)
                if response.status_code != 202:
                    return response.status_code, response.json().get("detail", "")[:200]
                location = response.headers["location"]
                try:
                    async with heavy.stream("GET", f"{location}/events") as events:
                        return [line async for line in events.aiter_lines() if line.startswith("event")][-1]
                finally:
                    await asyncio.shield(heavy.delete(location))

            figures["201 removals x documents"] = await beside(heavy, light, run, lambda: job(removals))
            times = [await cancel_latency(heavy, run, removals, 1000 + number) for number in range(10)]
            figures["cancel"] = {
                "p50": round(float(np.percentile(times, 50)), 3),
                "max": round(max(times), 3),
            }
            long_text = " ".join(texts)
            long_text = (long_text * (100_000 // len(long_text) + 1))[:100_000]
            long_texts = [f"{number} {long_text}"[:100_000] for number in range(64)]

            long_body = json.dumps({"texts": long_texts}).encode()

            async def classify_long() -> Any:
                while True:
                    response = await heavy.post(f"{base}/classify", content=long_body)
                    if response.status_code != 200:
                        return response.status_code, response.json().get("detail", "")[:200]

            figures["classify 64 x 100,000 characters"] = await beside(heavy, light, run, classify_long)
            fit = int(9_400_000 / 250 / (len(json.dumps(long_text)) / len(long_text)))  # characters, escaped in JSON
            big = {**knockout, "texts": [f"{number} {long_text}"[:fit] for number in range(250)]}
            figures["knockout of 9.5 MB of texts"] = await beside(heavy, light, run, lambda: job(big))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, default=Path("demo-work/store"))
    parser.add_argument("--run", default="demo-jpn")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.store.absolute(), arguments.run)), indent=1))


if __name__ == "__main__":
    main()
