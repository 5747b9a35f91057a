"""Calls every operation of the client that openapi-python-client generated, and reads every response back.

Run by the Python in which openapi-python-client is installed: directory of the client, address, values of parameters.
"""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

directory, address, document_file, values_text = sys.argv[1:]
sys.path.insert(0, directory)

from tegakari_client import Client  # noqa: E402  # pyright: ignore

VALUES = json.loads(values_text)
client = Client(base_url=address, timeout=120)
document = json.loads(Path(document_file).read_text())
report = {}
operations = [operation for methods in document["paths"].values() for operation in methods.values()]
operations.sort(key=lambda operation: operation["operationId"] != "knockOut")  # the others take the id of its result
for operation in operations:
    name = re.sub(r"([A-Z])", r"_\1", operation["operationId"]).lower()
    module = importlib.import_module(f"tegakari_client.api.{operation['tags'][0].replace('-', '_')}.{name}")
    names = [parameter["name"] for parameter in operation.get("parameters", []) if parameter.get("required")]
    arguments = {name: VALUES[name] for name in names}
    if "requestBody" in operation:
        annotation = inspect.signature(module.sync_detailed).parameters["body"].annotation
        body = getattr(module, annotation.partition(" ")[0]) if isinstance(annotation, str) else annotation
        arguments["body"] = body.from_dict(VALUES[operation["operationId"]])
    response = module.sync_detailed(client=client, **arguments)
    status = int(response.status_code)
    parsed = response.parsed
    same = None
    if response.headers["content-type"].endswith("json"):
        same = parsed.to_dict() == json.loads(response.content)
        if not same:
            sys.stderr.write(f"{operation['operationId']}: {parsed.to_dict()} {response.content.decode()[:500]}\n")
    report[operation["operationId"]] = [status, type(parsed).__name__, same]
    if operation["operationId"] == "knockOut" and status == 200:
        VALUES["knockout"] = response.headers["content-location"].rpartition("/")[2]
sys.stdout.write(json.dumps(report))
