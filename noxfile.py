"""What is run on this project, a command each: ``nox -l`` lists them, ``nox -s lint`` runs one.

``bash .ci/run`` runs all that a change must pass on one Python, in its own environments.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.3"
nox.options.sessions = ["lint", "tests"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
ROOT = Path(__file__).resolve().parent


def install(session: nox.Session, *requirements: str) -> None:
    """Install in the versions of constraints.txt, which are of Python 3.11 and newer."""
    old = isinstance(session.python, str) and session.python == "3.10"
    session.install(*([] if old else ["-c", "constraints.txt"]), *requirements)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, mypy and clang-format."""
    install(session, ".[test,lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    listed = session.run("git", "ls-files", "*.cpp", "*.hpp", "*.cu", external=True, silent=True)
    session.run("clang-format", "--dry-run", "--Werror", *str(listed).split())


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests; arguments after ``--`` go to pytest."""
    install(session, ".[test]")
    session.run("pytest", "-n", "2", "--dist", "loadfile", "--benchmark-disable", *session.posargs)


@nox.session
def remote(session: nox.Session) -> None:
    """S3, with a server on this machine, and the simulation of a cluster."""
    install(session, ".[test-remote]")
    files = ("conversion/test_s3.py", "test_simulate_cluster.py")
    session.run("pytest", "-q", *(f"python_tests/{name}" for name in files), *session.posargs)


@nox.session
def pure(session: nox.Session) -> None:
    """Test the package as it is installed where no compiler works."""
    session.install("--no-cache-dir", ".", env={"CXX": "no-such-compiler"})
    install(session, "hypothesis", "pytest")
    code = "import splic_ext; assert splic_ext.available_backends() == ('numpy',)"
    session.run("python", "-I", "-c", code)
    files = ("completion", "test_masks.py", "test_options.py")
    session.run("pytest", "-q", *(f"python_tests/{name}" for name in files), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/docs; a warning is an error."""
    if not (ROOT / "docs" / "conf.py").is_file():
        session.skip("docs/conf.py is not there: the pages are read as they are")
    install(session, ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "build/docs")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Benchmarks in their quick form; arguments after ``--`` go to pytest."""
    install(session, ".[test]")
    only = ("benchmarks", "--benchmark-only", *session.posargs)
    session.run("pytest", "-q", *only, env={"SPLIC_BENCH": "quick"})


@nox.session
def sanitizers(session: nox.Session) -> None:
    """Address, undefined-behaviour and thread sanitizers, as long as in ``.ci/run``."""
    install(session, ".[test]", "cmake")
    python = f"PYTHON={shutil.which('python', path=session.bin)}"
    sizes = ("SIMD=OFF", "PROBLEMS=60", "CASES=12", "SECONDS=10")
    for target in ("asan", "tsan"):
        session.run("make", "-s", target, *sizes, python, external=True)


@nox.session
def build(session: nox.Session) -> None:
    """Source distribution and wheel of what is committed, checked; ``-- FOLDER`` keeps them."""
    install(session, "build", "numpy", "pytest", "hypothesis", "twine")
    folder = Path(session.posargs[0] if session.posargs else session.create_tmp()).resolve()
    clone = Path(session.create_tmp()).resolve() / "clone"
    shutil.rmtree(clone, ignore_errors=True)
    session.run("git", "clone", "-q", "--no-local", str(ROOT), str(clone), external=True)
    session.run("python", "-m", "build", str(clone), "-o", str(folder))
    archives = [str(path) for path in folder.iterdir() if path.suffix in (".gz", ".whl")]
    session.run("twine", "check", "--strict", *archives)
    session.install("--no-deps", *(path for path in archives if path.endswith(".whl")))
    session.run("pytest", "-q", "python_tests/test_shipping.py", env={"SPLIC_DIST": str(folder)})
