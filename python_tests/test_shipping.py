"""What is shipped: extras, and the contents of source distribution and wheel.

The archives are those in the folder that ``SPLIC_DIST`` names, as ``python -m build`` makes them in
a clean clone; ``.ci/run`` does. Without it the source distribution is made here, if its tools are
installed, and the tests of the wheel are skipped.
"""

from __future__ import annotations

import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import splic_ext
from splic_ext.diagnostics import OPTIONAL_PACKAGES

ROOT = Path(__file__).resolve().parent.parent
#: Extras for those who change the code; `splic-ext info` leaves them out.
DEVELOPMENT = {"docs", "lint", "test", "test-remote"}

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="the tests run without their repository"
)


@pytest.fixture(scope="module")
def project():
    tomllib = pytest.importorskip("tomllib", reason="part of Python since 3.11")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]


def test_info_knows_the_packages_of_all_extras(project):
    brought = {}
    for extra, requirements in project["optional-dependencies"].items():
        if extra in DEVELOPMENT:
            continue
        for requirement in requirements:
            name = re.match(r"[\w.-]+", requirement)[0]
            if name != "splic-ext":
                brought.setdefault(name, set()).add(extra)
    assert {name: set(extras) for name, extras in OPTIONAL_PACKAGES.items()} == brought


def test_extras_name_extras_that_exist(project):
    extras = project["optional-dependencies"]
    for requirements in extras.values():
        for requirement in requirements:
            named = re.match(r"splic-ext\[(.+)\]", requirement)
            assert named is None or set(named[1].split(",")) <= set(extras)


def tracked(*folders):
    """Return the files below folders that the repository holds; skip where it is none."""
    command = ["git", "-C", ROOT, "ls-files", "--", *folders]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the tests run outside of a git repository")
    return set(process.stdout.split("\n")) - {""}


def archive(pattern):
    """Return the one archive of that name in the folder ``SPLIC_DIST``; None without a folder."""
    folder = os.environ.get("SPLIC_DIST")
    if folder is None:
        return None
    (found,) = Path(folder).glob(pattern)
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution: its path, and the sizes of its files by name."""
    path = archive("*.tar.gz")
    if path is None:
        if importlib.util.find_spec("scikit_build_core") is None or shutil.which("git") is None:
            pytest.skip("SPLIC_DIST names no folder, and scikit-build-core or git is not installed")
        tracked("pyproject.toml")
        folder = tmp_path_factory.mktemp("sdist")
        subprocess.run(["git", "clone", "-q", "--no-local", ROOT, folder / "clone"], check=True)
        code = "from scikit_build_core.build import build_sdist; build_sdist('../dist')"
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder / "clone", check=True, capture_output=True
        )
        (path,) = (folder / "dist").iterdir()
    with tarfile.open(path) as opened:
        members = opened.getmembers()
    assert all(member.isfile() for member in members)
    top = f"splic_ext-{splic_ext.__version__}/"
    assert all(member.name.startswith(top) for member in members)
    return path, {member.name.removeprefix(top): member.size for member in members}


@pytest.fixture(scope="module")
def wheel():
    """The wheel: its path, and the sizes of its files by name."""
    path = archive("*.whl")
    if path is None:
        pytest.skip("SPLIC_DIST names no folder; `python -m build -o FOLDER` fills one")
    with zipfile.ZipFile(path) as opened:
        return path, {item.filename: item.file_size for item in opened.infolist()}


SOURCES = ("csrc", "cmake", "docs", "examples", "python_tests", "splic_ext")
SINGLE = {
    "CHANGELOG.md",
    "CITATION.cff",
    "CMakeLists.txt",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "SECURITY.md",
    "constraints.txt",
    "noxfile.py",
    "pyproject.toml",
    "splic_ext/_core.pyi",
    "splic_ext/py.typed",
    "benchmarks/bench_complete.py",
}


def test_source_distribution_is_complete(sdist):
    missing = (tracked(*SOURCES) | SINGLE) - set(sdist[1])
    assert not missing


def test_source_distribution_holds_nothing_else(sdist):
    path, sizes = sdist
    folders = {name.split("/")[0] for name in sizes if "/" in name}
    assert folders <= {*SOURCES, "benchmarks"}
    assert not [name for name in sizes if name.startswith("benchmarks/results/")]
    assert not [name for name in sizes if re.search(r"__pycache__|\.(so|pyd|o|pyc|log)$", name)]
    assert path.stat().st_size < 2 * 2**20
    assert max(sizes.values()) < 2**19


def test_wheel_has_the_package_and_no_more(wheel):
    path, sizes = wheel
    compiled = [name for name in sizes if re.fullmatch(r"splic_ext/_core\..+\.(so|pyd)", name)]
    assert len(compiled) == 1
    others = {name for name in sizes if not name.split("/")[0].endswith(".dist-info")}
    assert others - set(compiled) == tracked("splic_ext")
    assert path.stat().st_size < 4 * 2**20


def metadata(wheel):
    with zipfile.ZipFile(wheel[0]) as opened:
        (name,) = [name for name in wheel[1] if name.endswith(".dist-info/METADATA")]
        return PurePosixPath(name).parent, email.message_from_bytes(opened.read(name))


def test_wheel_says_what_it_is(wheel, project):
    folder, fields = metadata(wheel)
    assert fields["Name"] == "splic-ext"
    assert fields["Version"] == splic_ext.__version__
    assert fields["License-Expression"] == "MIT"
    assert fields.get_all("License-File") == ["LICENSE"]
    assert f"{folder}/licenses/LICENSE" in wheel[1]
    assert fields["Description-Content-Type"] == "text/markdown"
    assert fields.get_payload().startswith("# splic_ext\n")
    assert set(fields.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    required = [text for text in fields.get_all("Requires-Dist") if "extra ==" not in text]
    assert required == ["numpy>=1.25"]
    assert f"{folder}/entry_points.txt" in wheel[1]
