"""Turn the JSON of pytest-benchmark into a small result file of a fixed schema.

    python benchmarks/condense.py RAW.json benchmarks/results/NAME.json

Keeps medians, spreads, rates, errors and ratios; drops raw times, host names and paths.
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
RESULTS = Path(__file__).resolve().parent / "results"
SCHEMA_FILE = RESULTS / "schema.json"

MACHINE = ("cpu", "cores", "system", "simd", "splic_ext", "numpy", "torch", "python")
#: Of machines that have one.
OPTIONAL = ("gpu",)
PARAMS = ("size", "channels", "mode", "enlarged", "threads", "batch", "preset", "dtype")
WORK = ("images", "matrix_iterations")
RATES = ("images_per_second", "us_per_matrix_iteration")
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def condense(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the condensed form of what pytest-benchmark wrote.

    Refused are files with no benchmark, with one that failed, or of two machines or commits.
    """
    benchmarks = raw["benchmarks"]
    if not benchmarks:
        raise ValueError("no benchmark in the file: every one was skipped or failed")
    failed = [b["name"] for b in benchmarks if not b["extra_info"].get("passed")]
    if failed:
        raise ValueError(f"no result, the answer or a bound was missed by {', '.join(failed)}")
    shared = ("commit", "quick", *MACHINE)
    environments = [
        {key: b["extra_info"][key] for key in shared}
        | {key: b["extra_info"][key] for key in OPTIONAL if b["extra_info"].get(key)}
        for b in benchmarks
    ]
    environment = environments[0]
    for other in environments:
        if other != environment:
            raise ValueError(f"results of two environments in one file: {environment} and {other}")
    date = datetime.fromisoformat(raw["datetime"])
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    document = {
        "schema_version": SCHEMA_VERSION,
        "date": date.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": environment["commit"],
        "command": raw.get("command", "pytest benchmarks --benchmark-only"),
        "quick": environment["quick"],
        "machine": {key: environment[key] for key in (*MACHINE, *OPTIONAL) if key in environment},
        "results": [_result(benchmark, shared) for benchmark in benchmarks],
    }
    validate(document)
    return document


def _result(benchmark: dict[str, Any], shared: tuple[str, ...]) -> dict[str, Any]:
    info, stats = benchmark["extra_info"], benchmark["stats"]
    known = {"method", "data", "passed", *shared, *OPTIONAL, *PARAMS, *WORK, *RATES}
    return {
        "group": benchmark["group"],
        "name": benchmark["name"],
        "method": info["method"],
        "data": info["data"],
        "params": {key: info[key] for key in PARAMS if key in info},
        "rounds": stats["rounds"],
        "median_s": _short(stats["median"]),
        "iqr_s": _short(stats["iqr"]),
        **{key: info[key] for key in WORK},
        **{key: _short(info[key]) for key in RATES},
        "extra": {key: _short(value) for key, value in info.items() if key not in known},
    }


def _short(value: float) -> float:
    """Round to five significant digits."""
    return float(f"{value:.5g}")


def validate(document: Any, schema: dict[str, Any] | None = None, where: str = "$") -> None:
    """Check a document against the part of JSON Schema that ``schema.json`` uses."""
    if schema is None:
        schema = json.loads(SCHEMA_FILE.read_text())
    if "const" in schema and document != schema["const"]:
        raise ValueError(f"{where} must be {schema['const']!r}, got {document!r}")
    if "enum" in schema and document not in schema["enum"]:
        raise ValueError(f"{where} must be one of {schema['enum']}, got {document!r}")
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if not any(_is_type(document, name) for name in names):
            raise ValueError(f"{where} must be of type {' or '.join(names)}, got {document!r}")
    if "minimum" in schema and document < schema["minimum"]:
        raise ValueError(f"{where} must be at least {schema['minimum']}, got {document!r}")
    if "exclusiveMinimum" in schema and document <= schema["exclusiveMinimum"]:
        raise ValueError(f"{where} must be above {schema['exclusiveMinimum']}, got {document!r}")
    if isinstance(document, str) and not re.search(schema.get("pattern", ""), document):
        raise ValueError(f"{where} must match {schema['pattern']}, got {document!r}")
    if isinstance(document, list):
        if len(document) < schema.get("minItems", 0):
            raise ValueError(f"{where} must have {schema['minItems']} items or more")
        for i, item in enumerate(document):
            validate(item, schema.get("items", {}), f"{where}[{i}]")
    if isinstance(document, dict):
        _validate_object(document, schema, where)


def _validate_object(document: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for key in schema.get("required", []):
        if key not in document:
            raise ValueError(f"{where} must have the key {key!r}")
    for key, value in document.items():
        if key in properties:
            validate(value, properties[key], f"{where}.{key}")
        elif others is False:
            raise ValueError(f"{where} must not have the key {key!r}")
        else:
            validate(value, others, f"{where}.{key}")


def _is_type(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def main() -> None:
    """Condense one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("condensed", type=Path, help="the result file to write")
    arguments = parser.parse_args()
    try:
        raw = json.loads(arguments.raw.read_text())
        if raw.get("form") != "full" and arguments.condensed.resolve().parent == RESULTS:
            raise ValueError("a result has all benchmarks: run them with SPLIC_BENCH=full")
        document = condense(raw)
    except ValueError as error:
        parser.exit(1, f"{arguments.raw.name}: {error}\n")
    arguments.condensed.write_text(dumps(document))


def dumps(document: dict[str, Any]) -> str:
    """Return the document as JSON text, one result on each line."""
    head = {key: value for key, value in document.items() if key != "results"}
    lines = ",\n".join("    " + json.dumps(result) for result in document["results"])
    return json.dumps(head, indent=2)[:-2] + f',\n  "results": [\n{lines}\n  ]\n}}\n'


if __name__ == "__main__":
    main()
