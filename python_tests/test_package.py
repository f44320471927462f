"""The package as a whole: public names, import, typing, version, doctests."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import types
from pathlib import Path

import numpy as np
import pytest

import splic_ext
from splic_ext import MissingExtraError

PACKAGE = Path(splic_ext.__file__).parent
ROOT = Path(__file__).resolve().parent.parent

PUBLIC = [
    "BackendInfo",
    "BackendUnavailableError",
    "CompletionInfo",
    "ConversionError",
    "MissingExtraError",
    "ShapeError",
    "SolverOptions",
    "__version__",
    "available_backends",
    "backend_info",
    "complete",
    "convert",
    "inpaint",
    "masks",
]

SIGNATURE = (
    "(batch, mask=None, *, options=None, seed=0, first_index=0, backend='auto', threads=None, "
    "channel_axis=-3, data_range=None, out=None, return_info=False)"
)


def test_public_names():
    assert sorted(splic_ext.__all__) == sorted(PUBLIC)
    assert all(hasattr(splic_ext, name) for name in PUBLIC)
    assert issubclass(splic_ext.BackendUnavailableError, RuntimeError)
    assert issubclass(splic_ext.ShapeError, ValueError)


def test_signature_of_complete():
    signature = inspect.signature(splic_ext.complete)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == SIGNATURE


def test_backends():
    assert set(splic_ext.backend_info()) >= {"cpu", "numpy"}
    assert splic_ext.available_backends()[-1] == "numpy"
    for name, info in splic_ext.backend_info().items():
        assert info.name == name
        assert info.devices
        assert set(info.precisions) <= {"float32", "float64"}


def test_auto_takes_the_fastest():
    batch = np.random.default_rng(0).random((2, 3, 9, 8))
    options = splic_ext.SolverOptions(max_iterations=9)
    best = splic_ext.available_backends()[0]
    expected = splic_ext.complete(batch, options=options, backend=best)
    assert np.array_equal(splic_ext.complete(batch, options=options), expected)


def modules(package="splic_ext", folder=PACKAGE):
    """Names of all public modules, found without importing them."""
    names = [package]
    for found in pkgutil.iter_modules([str(folder)], f"{package}."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        if found.ispkg:
            names += modules(found.name, folder / found.name.rpartition(".")[2])
        else:
            names.append(found.name)
    return names


@pytest.fixture(params=modules())
def module(request):
    """Each public module; one that needs an extra that is absent is skipped, and says so."""
    try:
        return importlib.import_module(request.param)
    except (MissingExtraError, ModuleNotFoundError) as error:
        if getattr(error, "name", None) and error.name.startswith("splic_ext"):
            raise
        pytest.skip(f"needs an extra: {error}")


@pytest.mark.skipif(
    int(np.__version__.partition(".")[0]) < 2, reason="NumPy 1 prints scalars otherwise"
)
def test_doctests(module):
    results = doctest.testmod(module)
    assert results.failed == 0


def test_modules_say_what_is_public(module):
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert names, f"{module.__name__} has no __all__"
    assert len(set(names)) == len(names)
    for name in names:
        value = getattr(module, name)
        if isinstance(value, types.GenericAlias):  # a class by Python 3.10's account
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{module.__name__}.{name} has no docstring"


IMPORTED = """
import sys
import numpy
before = set(sys.modules)
import splic_ext
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names) - {"numpy", "splic_ext"}) or ["none"])
print(*sorted(name for name in sys.modules if name.startswith("splic_ext")))
"""


def test_import_brings_numpy_and_the_standard_library_alone(run_python):
    others, own = run_python(IMPORTED).split("\n")
    assert others == "none"
    assert "splic_ext.completion" in own.split()
    assert "splic_ext.cli" not in own.split()


IMPORT_TIME = """
import time
begun = time.perf_counter()
import numpy
middle = time.perf_counter()
import splic_ext
print(middle - begun, time.perf_counter() - middle)
"""


def test_import_takes_little_more_than_that_of_numpy(run_python, tmp_path):
    """At most 60 ms more; medians of 9."""
    variables = {"PYTHONPYCACHEPREFIX": tmp_path / "cache", "PYTHONDONTWRITEBYTECODE": ""}
    run_python(IMPORT_TIME, **variables)
    runs = [run_python(IMPORT_TIME, **variables).split() for _ in range(9)]
    numpy_time, own_time = np.median(np.array(runs, dtype=float), axis=0)
    assert own_time <= 0.060, f"NumPy itself took {numpy_time:.3f} s"


def test_typing_marker_and_stub():
    assert (PACKAGE / "py.typed").is_file()
    if importlib.util.find_spec("splic_ext._core") is None:
        pytest.skip("the native module was not built: there is nothing to stub")
    stub = PACKAGE / "_core.pyi"
    assert stub.is_file()
    core = importlib.import_module("splic_ext._core")
    text = stub.read_text()
    for name in dir(core):
        if not name.startswith("_"):
            assert re.search(rf"^(def|class) {name}\b|^{name}:", text, re.MULTILINE), name


def test_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+|\.dev\d+)?", splic_ext.__version__)
    try:
        version = importlib.metadata.version("splic-ext")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("splic_ext is imported from a folder, not installed")
    assert version == splic_ext.__version__


def test_version_stands_in_one_place():
    """Of all that is built from; the changelog and the citation file record releases."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the tests run without their repository")
    number = re.compile(rf"(?<![\d.]){re.escape(splic_ext.__version__)}(?![\d.])")
    kinds = ("*.py", "*.pyi", "*.cpp", "*.hpp", "*.cu", "CMakeLists.txt", "*.cmake", "*.toml")
    files = [path for folder in ("splic_ext", "csrc") for path in (ROOT / folder).rglob("*")]
    files += ROOT.glob("*")
    holders = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file()
        and any(path.match(kind) for kind in kinds)
        and number.search(path.read_text(encoding="utf-8"))
    ]
    assert holders == ["splic_ext/__init__.py"]
