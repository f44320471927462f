"""The plan of the house: imports run downwards, no circle, nothing loose at the root."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import splic_ext

PACKAGE = Path(splic_ext.__file__).parent
ROOT = Path(__file__).resolve().parent.parent

#: From the top floor down: a module imports from floors below its own, and from its own room.
FLOORS = (
    ("cli",),
    ("report",),
    ("experiments",),
    ("training", "certify"),
    ("evaluation",),
    ("attacks", "conversion"),
    ("runs",),
    ("defenses", "fills", "files", "transforms"),
    ("autograd", "diagnostics", "inpainting"),
    ("completion",),
    ("backends",),
    ("arrays", "masks", "data", "models"),
    ("options", "specs"),
    ("common",),
    ("errors", "signals"),
)
#: Who may import whom on one floor: importer, imported.
BESIDE = {
    ("options", "specs"),
    ("fills", "defenses"),
}
LOOSE = {"__init__.py", "_core.pyi", "_cuda.pyi", "py.typed"}

LEVEL = {room: -number for number, floor in enumerate(FLOORS) for room in floor}
MOST_LINES, MEAN_LINES = 500, 200


def modules():
    """Yield the path of each module below the package, and its dotted name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield path, parts[:-1] if parts[-1] == "__init__" else parts


def imports(path):
    """Yield the parts of each module of this package that a file imports, wherever it does."""
    known = {parts for _, parts in modules()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *parts = name.split(".")
            if first != "splic_ext":
                continue
            while tuple(parts) not in known:
                parts.pop()
            yield tuple(parts)


def test_every_room_has_a_floor():
    rooms = {parts[0] for _, parts in modules() if parts}
    assert rooms == set(LEVEL)
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    single = {f"{room}.py" for room in LEVEL if not (PACKAGE / room).is_dir()}
    assert {name for name in loose if not name.endswith(".so")} == LOOSE | single


@pytest.mark.parametrize("room", sorted(LEVEL))
def test_imports_run_downwards(room):
    up = []
    for path, parts in modules():
        if parts[:1] != (room,):
            continue
        for target in imports(path):
            if not target or target[0] == room:
                continue
            down = LEVEL[target[0]] < LEVEL[room]
            if not down and (room, target[0]) not in BESIDE:
                up.append(f"{'.'.join(parts)} -> {'.'.join(target)}")
    assert not up


def test_no_modules_import_each_other():
    """Nor does a module import the package that it is in."""
    edges = {parts: set(imports(path)) - {parts, ()} for path, parts in modules()}
    packages = {parts for path, parts in modules() if path.name == "__init__.py"}
    done, circles = set(), []

    def visit(node, trail):
        if node in trail:
            circles.append(
                " -> ".join(".".join(part) for part in (*trail[trail.index(node) :], node))
            )
            return
        if node in done:
            return
        for target in sorted(edges[node]):
            visit(target, (*trail, node))
        done.add(node)

    for node in sorted(edges.keys() - {()}, key=lambda parts: (parts in packages, parts)):
        visit(node, ())
    assert not circles


def count_lines(paths):
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}


def test_no_file_is_long():
    lines = count_lines(path for path, _ in modules())
    assert {path.name: count for path, count in lines.items() if count > MOST_LINES} == {}
    assert sum(lines.values()) / len(lines) < MEAN_LINES


def test_no_test_is_long():
    lines = count_lines(Path(__file__).parent.rglob("*.py"))
    assert {path.name: count for path, count in lines.items() if count > MOST_LINES} == {}


# docs/architecture.md and its picture

PLAN = ROOT / "docs" / "architecture.md"
with_docs = pytest.mark.skipif(not PLAN.is_file(), reason="no documentation beside the tests")


@pytest.fixture
def draw_architecture(monkeypatch):
    monkeypatch.syspath_prepend(str(PLAN.parent))
    return importlib.import_module("draw_architecture")


@with_docs
def test_the_plan_has_these_floors(draw_architecture):
    rooms = draw_architecture.rooms(PLAN.read_text(encoding="utf-8"))
    top = len(FLOORS)
    expected = [(top - number, room) for number, floor in enumerate(FLOORS) for room in floor]
    assert [room[:2] for room in rooms] == expected


@with_docs
def test_the_picture_is_that_of_the_plan(draw_architecture):
    drawn = draw_architecture.draw(PLAN.read_text(encoding="utf-8"))
    hint = "draw it anew: python docs/draw_architecture.py"
    assert PLAN.with_suffix(".svg").read_text(encoding="utf-8") == drawn, hint
