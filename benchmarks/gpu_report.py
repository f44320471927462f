"""What gpu_run.py writes: one JSON file and one text of results, prediction beside measurement."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

WIDTH = 100
MANY_SECONDS = 1.5  # for 60,000 images from the CPU and back
MANY = 60_000
#: Of the table of images a second, which may be wider than that of a terminal.
MORE_COLUMNS = {
    "cuda, general kernel": "general, rank 9",
    "cuda, cuSOLVER": "cuSOLVER",
    "cupy.linalg.svd": "CuPy SVD",
}
TABLE = Path(__file__).with_name("cuda_counts.json")

#: A line that says what was predicted and what was measured.
Line = dict[str, Any]


def watch_clocks(log: Path) -> subprocess.Popen[bytes] | None:
    """Note clock, power and heat of the GPU every other second, where nvidia-smi is."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = "--query-gpu=clocks.sm,power.draw,temperature.gpu"
    with log.open("wb") as output:
        return subprocess.Popen(
            ["nvidia-smi", query, "--format=csv,noheader,nounits", "-l", "2"],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def clocks(log: Path) -> dict[str, float]:
    """Return the highest clock, power and heat that were seen."""
    found = []
    for line in log.read_text(errors="replace").splitlines() if log.is_file() else []:
        fields = line.split(",")
        if len(fields) == 3 and all(re.fullmatch(r"\s*\d+(\.\d+)?\s*", field) for field in fields):
            found.append([float(field) for field in fields])
    if not found:
        return {}
    names = ("MHz", "watts", "degrees")
    return {name: max(line[i] for line in found) for i, name in enumerate(names)}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of JSON in a file, a line each; other lines are passed over."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        if line.startswith("{"):
            with contextlib.suppress(ValueError):  # the last one may be cut off
                found.append(json.loads(line))
    return found


def kernel_of(name: str) -> str | None:
    """Return what cuda_counts.py calls a kernel that ncu names."""
    if found := re.search(r"warp_kernel<\D*(\d+)\D+?(\d+)>", name.replace("(int)", "")):
        return f"{32 * int(found[1])} x 32, rank {found[2]}"
    return "general" if "complete_kernel" in name else None


def read_counters(path: Path) -> dict[str, dict[str, float]]:
    """Return the counters of each kernel, summed over its launches where they are sums."""
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    begin = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    found: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(lines[begin:]) if begin is not None else ():
        kernel, metric = kernel_of(row.get("Kernel Name", "")), row.get("Metric Name", "")
        try:
            value = float(row.get("Metric Value", "").replace(",", ""))
        except ValueError:
            continue
        if kernel is None or not metric:
            continue
        unit = row.get("Metric Unit", "")
        metric = f"{metric} [{unit}]" if unit else metric
        kept = found.setdefault(kernel, {})
        kept[metric] = kept.get(metric, 0.0) + value if ".sum" in metric else value
    return found


def metric_of(counters: dict[str, float], name: str) -> float | None:
    """Return a counter, whatever its unit is called."""
    return next((value for key, value in counters.items() if key.split(" [")[0] == name), None)


# ---- prediction and measurement ----


def device_of(document: dict[str, Any], counts: Any) -> tuple[dict[str, Any] | None, str]:
    """Return the device as cuda_counts.py describes one; or None, and why."""
    devices = document["module"].get("devices") or []
    smi = document["machine"].get("nvidia_smi", {})
    if not devices:
        return None, "there is no device"
    arch = devices[0]["compute_capability"].replace(".", "")
    alike = next((one for one in counts.DEVICES.values() if one["arch"] == arch), None)
    if alike is None:
        return None, f"{TABLE.name} has no device of sm_{arch}"
    if not re.fullmatch(r"\d+(\.\d+)?", smi.get("clocks.max.sm", "")):
        return None, "nvidia-smi does not tell the clock of this device"
    own = {"count": devices[0]["multiprocessors"], "clock": 1e6 * float(smi["clocks.max.sm"])}
    return {**alike, **own}, ""


def compare(document: dict[str, Any]) -> tuple[list[Line], str]:
    """Put measurements beside what cuda_counts.py predicts for this device; or say why not."""
    try:
        counts = importlib.import_module("cuda_counts")
    except ImportError as error:
        return [], f"the prediction cannot be computed: {error}"
    device, why = device_of(document, counts)
    if device is None:
        return [], why
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["kernels"].get(device["arch"])
    if not rows:
        return [], f"{TABLE.name} has no kernels of sm_{device['arch']}"
    lines: list[Line] = []

    def add(what: str, predicted: float, measured: float | None) -> None:
        if measured is not None:
            lines.append({"what": what, "predicted": predicted, "measured": measured})

    for name, row in rows.items():
        matrices = counts.KERNELS[name]["matrices"]
        made = counts.ITERATIONS * counts.PASSES * matrices
        rate = counts.predict(device, row, matrices)["images"]
        for phase in document["phases"]:
            if phase.get("kernel") != name or phase["arrays"] != "GPU":
                continue
            measured = phase["us_per_matrix_iteration"]
            if phase["images"] > 1:
                add(f"{name}: images/s, {made} iterations each", rate, 1e6 / (measured * made))
            else:
                alone = measured * phase["matrices"] * device["clock"] / 1e6
                add(f"{name}: cycles of an iteration, alone", row["cycles"], alone)
        counted = document["counters"].get(name, {})
        times = document["launches"].get(name)
        executed = metric_of(counted, "smsp__inst_executed.sum")
        if times and executed:
            add(f"{name}: instructions", row["instructions"], executed / times)
        add(f"{name}: registers", row["registers"], metric_of(counted, "Registers Per Thread"))
    return lines, "" if lines else "nothing was measured that has a prediction"


def rate_of(rows: list[dict[str, Any]], method: str, size: int, mode: str) -> float | None:
    """Return microseconds of a matrix and iteration of a benchmark that has passed."""
    for row in rows:
        case = (row["test"], row["method"], row["size"], row["channels"], row["mode"])
        if case == ("test_cuda", method, size, 3, mode) and row.get("passed"):
            value = row.get("us_per_matrix_iteration")
            return None if value is None else float(value)
    return None


def goals(rows: list[dict[str, Any]]) -> list[tuple[str, float | None, float]]:
    """Return what a GPU is asked for: what, measured, the least."""
    own = "cuda, arrays on the GPU"
    found: list[tuple[str, float | None, float]] = []
    images = [
        row["images_per_second"]
        for row in rows
        if row["test"] == "test_cuda" and row["method"] == own and row.get("passed")
        if (row["size"], row["channels"], row["mode"]) == (32, 3, "stacked")
        and "images_per_second" in row
    ]
    found.append(("32 x 32 RGB, images/s", images[0] if images else None, 150_000))
    torch = "torch.linalg.svd on the GPU"
    peers = ((32, "cuda, cuSOLVER", 10), (32, torch, 20), (224, torch, 5))
    for size, peer, least in peers:
        ours = rate_of(rows, own, size, "stacked")
        other = rate_of(rows, peer, size, "stacked")
        times = other / ours if ours and other else None
        found.append((f"{size} x {size} RGB, times {peer}", times, least))
    return found


# ---- text ----


def short(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def columns(cells: list[list[str]]) -> list[str]:
    """Return lines of a table, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in cells
    ]


def head(document: dict[str, Any]) -> list[str]:
    machine, module = document["machine"], document["module"]
    bundle = machine.get("bundle", {})
    devices = module.get("devices") or []
    lines = [f"{document['command']}, {document['date']}, {document['seconds']:.0f} s"]
    lines.append(f"commit {document['commit'] or 'unknown'}")
    if bundle and bundle.get("commit") != document["commit"]:
        lines.append(f"the bundle is of another commit: {bundle.get('commit') or 'unknown'}")
    if document["quick"]:
        lines.append("QUICK: the numbers mean nothing.")
    for device in devices:
        lines.append(
            f"device: {device['name']}, compute capability {device['compute_capability']}, "
            f"{device['multiprocessors']} multiprocessors"
        )
    if not devices:
        lines.append("NO DEVICE: nothing here was measured on a GPU.")
    smi = machine.get("nvidia_smi", {})
    driver = smi.get("driver_version") or machine.get("no_driver") or "unknown"
    lines.append(f"driver: {driver}; CUDA runtime {module.get('runtime', 'unknown')}")
    if seen := document["clocks"]:
        lines.append("at most: " + ", ".join(f"{value:g} {key}" for key, value in seen.items()))
    lines.append(f"{machine.get('cores')} cores, {machine.get('system')}")
    lines.append(
        f"Python {machine.get('python')}, "
        + ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items())
    )
    lacking = [name for name, version in machine.get("tools", {}).items() if version is None]
    lines.append(f"the machine lacks: {', '.join(lacking) or 'nothing that is looked for'}")
    lines.append(f"module: {module.get('how', 'none')}; cuSOLVER: {module.get('cusolver', 'none')}")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]


def speeds(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table of images a second, and the lines of many images from the CPU."""
    summary = importlib.import_module("summary")
    every = {**summary.GPU, **MORE_COLUMNS}
    shown = [row for row in rows if summary.TESTS.get(row["test"]) is summary.GPU]
    shown = [row for row in shown if row["method"] in every]
    lines = summary.table(shown, every) if shown else []
    if lines:
        lines.append("(..x): SPLIC is so many times faster, by the time of a matrix and iteration.")
    cells = [["from the CPU and back", "images", "MB", "seconds", "images/s", "GB/s"]]
    for row in rows:
        if row["test"] != "test_cuda_many" or "images_per_second" not in row:
            continue
        moved, seconds = (
            row["bytes_in"] + row["bytes_out"],
            row["images"] / row["images_per_second"],
        )
        numbers = [f"{row['images']:,}", f"{moved / 1e6:,.1f}", f"{seconds:.3g}"]
        numbers += [f"{row['images_per_second']:,.0f}", f"{moved / seconds / 1e9:.3g}"]
        cells.append([f"32 x 32 RGB, {row['dtype']}", *numbers])
    if len(cells) > 1:
        lines += ["", *columns(cells), f"asked for: {MANY:,} images in {MANY_SECONDS} s"]
    failed = [row for row in rows if not row.get("passed")]
    lines += [
        f"NO RESULT: {row['test']}, {row['method']}, {row['size']} x {row['size']}: "
        f"{row.get('failure', 'failed')}"[:300]
        for row in failed
    ]
    return lines


def phases(document: dict[str, Any]) -> list[str]:
    cells = [["kernel", "images", "us a matrix and iteration", "us a call besides", "arrays"]]
    lines = []
    for row in document["phases"]:
        if row["phase"] != "completion":
            speed = row["bytes"] / row["seconds"] / 1e9
            lines.append(f"copy {row['phase']}: {row['bytes']:,} bytes, {speed:.3g} GB/s")
            continue
        numbers = (row["us_per_matrix_iteration"], row["us_besides"])
        cells.append(
            [row["kernel"], f"{row['images']:,}", *(f"{n:.4g}" for n in numbers), row["arrays"]]
        )
    return (columns(cells) if len(cells) > 1 else []) + lines


def render(document: dict[str, Any]) -> str:
    """Return the text."""
    blocks = [("SPLIC on a GPU", head(document))]
    parts = [[p["part"], p["status"], f"{p['seconds']:.1f} s"] for p in document["parts"]]
    told = [
        f"{line}  {p['said']}" for line, p in zip(columns(parts), document["parts"], strict=True)
    ]
    blocks.append(("Parts", told))
    blocks.append(("Images a second", speeds(document["benchmarks"])))
    blocks.append(("Phases", phases(document)))
    lines = [
        f"{kernel}: {name} {short(value)}"
        for kernel, counted in document["counters"].items()
        for name, value in counted.items()
    ]
    blocks.append(("Counters", lines))
    cells = [["", "predicted", "measured", "measured / predicted"]]
    for line in document["comparison"]:
        ratio = line["measured"] / line["predicted"]
        cells.append(
            [line["what"], short(line["predicted"]), short(line["measured"]), f"{ratio:.2f}"]
        )
    lines = columns(cells) if document["comparison"] else [f"None: {document['no_comparison']}."]
    blocks.append(("Prediction and measurement", lines))
    if document["benchmarks"]:
        cells = [["", "measured", "asked for"]]
        cells += [[what, short(value), short(least)] for what, value, least in document["goals"]]
        blocks.append(("What is asked for", columns(cells)))
    text = []
    for title, lines in blocks:
        text += [title, "-" * len(title), *(lines or ["None."]), ""]
    return "\n".join(text)


def write(folder: Path, document: dict[str, Any]) -> str:
    """Gather what the parts have left; write gpu_run.json and gpu_run.txt, and return the text."""
    rows = [row for name in ("speed", "peers") for row in read_rows(folder / f"{name}.jsonl")]
    document["benchmarks"] = rows
    document["phases"] = read_rows(folder / "phases.log")
    document["counters"] = read_counters(folder / "counters.csv")
    document["launches"] = dict(*read_rows(folder / "counters.log")[-1:])
    document["clocks"] = clocks(folder / "clocks.log")
    document["goals"] = goals(rows)
    document["comparison"], document["no_comparison"] = compare(document)
    text = render(document)
    encoded = json.dumps(document, indent=1) + "\n"
    (folder / "gpu_run.json").write_text(encoded, encoding="utf-8")
    (folder / "gpu_run.txt").write_text(text, encoding="utf-8")
    return text
