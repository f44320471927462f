"""Files of results with one damaged value: the page names them, and shows the others."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.report import benchmarks, table, write

from splic_ext.report import collect, make_page, write_report

ROOT = Path(__file__).resolve().parents[2]

__all__ = ["table"]  # a fixture

pytestmark = pytest.mark.skipif(
    not (ROOT / "results").is_dir(), reason="a source distribution is without the results"
)

FILES = (
    "results/adaptive/cifar10_transfer/adaptive.json",
    "results/cifar10_jpeg/figure5.json",
    "results/cifar10_jpeg/figure12.json",
    "results/gray_box/svhn/table4.json",
    "results/svhn/table2.json",
    "results/preset_recommended.json",
    "benchmarks/results/cpu_epyc_avx2.json",
)
NUMBERS = (
    float("nan"), float("inf"), 1e308, -1e308, 10**400, 2**63, -5, 0, "x", "", None, True, [], {},
)  # fmt: skip
TEXTS = (
    -1, 1.5, None, True, [], {}, "", "x" * 100_000, "\x00\x1b[2J\x07", "\ud800", "$\\frac{",
    '{"a":', "[1]", '{"eot": 1e400}', '{"threat": {"epsilon": "x"}}', "AAAA", "iVBORw0KGgo=",
)  # fmt: skip
#: (name of the file, place in it, value): each ended the whole report once.
ONCE = (
    ("table4", ("rows", 3, "mean", "high"), 10**400),
    ("cpu_epyc_avx2", ("results", 0, "params", "batch"), None),
    ("cpu_epyc_avx2", ("results", 0, "params", "batch"), 1e308),
    ("cpu_epyc_avx2", ("results", 0, "us_per_matrix_iteration"), 1e308),
)


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(values, (dict, list)):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from leaves(value, (*path, key))
    else:
        yield path


def change(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = at = copy.deepcopy(values)
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


def mutations() -> Iterator[tuple[str, Any]]:
    rng = random.Random(14)
    for place in FILES:
        values = json.loads((ROOT / place).read_text(encoding="utf-8"))
        stem = Path(place).stem
        yield from ((stem, change(values, path, new)) for name, path, new in ONCE if name == stem)
        kinds: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
        for path in leaves(values):  # so that no kind of value is rare
            kinds.setdefault(tuple(k for k in path if isinstance(k, str)), []).append(path)
        for _ in range(8):
            path = rng.choice(kinds[rng.choice(list(kinds))])
            old = values
            for key in path:
                old = old[key]
            number = isinstance(old, (int, float)) and not isinstance(old, bool)
            yield stem, change(values, path, rng.choice(NUMBERS if number else TEXTS))


def test_one_damaged_value_never_ends_the_report(tmp_path):
    if not all((ROOT / place).is_file() for place in FILES):
        pytest.skip("a source distribution is without results")
    mutated = list(mutations())
    assert len(mutated) == 8 * len(FILES) + len(ONCE)
    for stem, values in mutated:
        path = tmp_path / f"{stem}.json"
        path.write_text(json.dumps(values))
        page = make_page(collect([path]))
        assert len(page.entries) + len(page.unread) == 1
        assert all(file.reason and len(file.reason) < 500 for file in page.unread)
        assert page.to_html()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"params": {"size": 32, "channels": 3, "threads": 1, "batch": None}}, "it is damaged: "),
        ({"median_s": float("nan")}, "it is damaged: it holds the number NaN"),
        ({"images": 10**400}, "it is damaged: it holds an integer of 401 digits"),
    ],
)
def test_the_others_are_shown(table, tmp_path, changes, reason):
    write(tmp_path, table)
    values = benchmarks()
    for result in values["results"]:
        result.update(changes)
        result["name"] = "test_batch[x]"
    (tmp_path / "speed.json").write_text(json.dumps(values))
    page = write_report([tmp_path], tmp_path / "page.html")
    assert [entry.title for entry in page.entries] == ["Table 4: made"]
    (file,) = page.unread
    assert file.path.endswith("speed.json")
    assert file.reason.startswith(reason)
    assert file.reason in (tmp_path / "page.html").read_text().replace("&#39;", "'")
