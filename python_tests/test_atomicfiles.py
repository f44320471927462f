"""Files that appear at once, when they are finished."""

import os
import stat

import pytest

from splic_ext.atomicfiles import atomic_path


def write_and(path, then, **options):
    """Write a file atomically; do something before it is moved to its place."""
    with atomic_path(path, **options) as temporary:
        temporary.write_text("new")
        then()


def test_atomic_path_makes_folders_and_leaves_nothing_on_failure(tmp_path):
    target = tmp_path / "x" / "y.txt"
    with pytest.raises(ZeroDivisionError):
        write_and(target, lambda: 1 / 0)
    assert list((tmp_path / "x").iterdir()) == []
    there = []
    write_and(target, lambda: there.append(target.exists()))
    assert there == [False]
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y.txt"]
    assert target.read_text() == "new"


def test_atomic_path_never_overwrites_unasked(tmp_path):
    target = tmp_path / "y.txt"
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_and(target, lambda: target.write_text("came meanwhile"))
    assert target.read_text() == "came meanwhile"
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_and(target, lambda: pytest.fail("the file was there from the start"))
    write_and(target, lambda: None, overwrite=True)
    assert target.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_path_cannot_be_raced(tmp_path, monkeypatch):
    """The file comes after the last look at the folder, before the move."""
    target = tmp_path / "y.txt"
    monkeypatch.setattr("os.path.lexists", lambda path: False)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_and(target, lambda: target.write_text("came meanwhile"))
    assert target.read_text() == "came meanwhile"
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_path_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    target = tmp_path / "y.txt"
    write_and(target, lambda: None)
    assert target.read_text() == "new"
    target.unlink()
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_and(target, lambda: target.write_text("came meanwhile"))
    assert target.read_text() == "came meanwhile"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="no such modes there")
def test_an_overwritten_file_keeps_its_mode(tmp_path):
    target = tmp_path / "y.txt"
    target.write_text("old")
    for mode in (0o600, 0o664):
        target.chmod(mode)
        write_and(target, lambda: None, overwrite=True)
        assert stat.S_IMODE(target.stat().st_mode) == mode
