"""Workflows, sessions of nox and templates of issues: they parse, and name what exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GITHUB = ROOT / ".github"

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
pytestmark = pytest.mark.skipif(
    not GITHUB.is_dir(), reason="a source distribution is without workflows"
)

WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = [path for path in sorted(GITHUB.glob("ISSUE_TEMPLATE/*.yml")) if path.stem != "config"]


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def nox_values():
    """Return the sessions of the noxfile, and the versions of Python that it names."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    (pythons,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PYTHONS"
    )
    sessions = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and "nox.session" in map(ast.unparse, names(node))
    }
    return sessions, pythons


def names(function):
    for decorator in function.decorator_list:
        yield decorator.func if isinstance(decorator, ast.Call) else decorator


def test_there_are_these_workflows():
    assert [path.stem for path in WORKFLOWS] == ["benchmarks", "docs", "test", "wheels"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_read_alone_and_end(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "${{ github.ref }}" in workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 150
        granted = {"id-token": "write"} if name == "publish" else None
        assert job.get("permissions") == granted


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_of_a_major_version_and_keep_no_password(path):
    used = [step for step in steps(read(path)) if "uses" in step]
    assert used
    for step in used:
        owner = step["uses"].partition("/")[0]
        assert re.fullmatch(r"(actions|pypa)/[\w-]+@(release/)?v\d+", step["uses"])
        assert "password" not in step.get("with", {})
        assert owner == "actions" or "publish" in step["uses"]
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_shell_lines_take_no_text_of_strangers(path):
    """An expression in a script is pasted into it: only the matrix, which stands beside, may be."""
    for step in steps(read(path)):
        for expression in re.findall(r"\$\{\{(.+?)\}\}", step.get("run", "")):
            assert expression.strip().startswith("matrix.")


def test_sessions_of_nox_exist():
    sessions, pythons = nox_values()
    assert sessions >= {"lint", "tests", "pure", "docs", "benchmarks", "sanitizers", "build"}
    called = [
        name.removesuffix("-${{")
        for path in WORKFLOWS
        for step in steps(read(path))
        for name in re.findall(r"nox -s (\S+)", step.get("run", ""))
    ]
    assert set(called) <= sessions
    assert set(called) >= {"tests", "pure", "docs", "benchmarks", "sanitizers", "build"}
    matrix = read(GITHUB / "workflows" / "test.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == pythons
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert {name.partition("-")[0] for name in re.findall(r"nox -s ([\w.-]+)", page)} <= sessions


def test_versions_of_python_are_the_same_everywhere():
    tomllib = pytest.importorskip("tomllib", reason="part of Python since 3.11")
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pattern = r"Programming Language :: Python :: (3\.\d+)"
    texts = document["project"]["classifiers"]
    classified = [found[1] for text in texts if (found := re.fullmatch(pattern, text))]
    assert classified == nox_values()[1]
    minors = ",".join(version.removeprefix("3.1") for version in classified)
    assert document["tool"]["cibuildwheel"]["build"] == f"cp31{{{minors}}}-*"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_templates_of_issues_ask(path):
    form = read(path)
    assert form["name"]
    assert form["description"]
    identifiers = [item["id"] for item in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    assert any(item.get("validations", {}).get("required") for item in form["body"])
    if path.stem != "feature":
        (info,) = [item for item in form["body"] if item["id"] == "info"]
        assert "`splic-ext info`" in info["attributes"]["label"]


def test_three_templates():
    assert [path.stem for path in FORMS] == ["bug", "feature", "wrong_number"]


def test_hooks_run_what_the_lint_extra_brings():
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    commands = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert commands == {"ruff", "mypy", "clang-format", "pytest"}
    assert all(hook["language"] == "system" for hook in local["hooks"])
