"""Files that appear at once, when they are finished."""

import os
import stat

import pytest

from splic_ext.common.atomic import atomic_path, write_bytes, write_text


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
    with pytest.raises(FileExistsError, match="`overwrite=True`"):
        write_and(target, lambda: target.write_text("came meanwhile"))
    assert target.read_text() == "came meanwhile"
    with pytest.raises(FileExistsError, match="`overwrite=True`"):
        write_and(target, lambda: pytest.fail("the file was there from the start"))
    write_and(target, lambda: None, overwrite=True)
    assert target.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_path_cannot_be_raced(tmp_path, monkeypatch):
    """The file comes after the last look at the folder, before the move."""
    target = tmp_path / "y.txt"
    monkeypatch.setattr("os.path.lexists", lambda path: False)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    with pytest.raises(FileExistsError, match="`overwrite=True`"):
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
    with pytest.raises(FileExistsError, match="`overwrite=True`"):
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


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, overwrite):
    target, seen, sync = tmp_path / "y.txt", [], os.fsync

    def noted(number):
        status = os.fstat(number)
        kind = "folder" if stat.S_ISDIR(status.st_mode) else status.st_size
        seen.append((kind, target.exists()))
        sync(number)

    monkeypatch.setattr(os, "fsync", noted)
    write_and(target, lambda: None, overwrite=overwrite, durable=True)
    assert seen == [(3, False), ("folder", True)][: 1 if os.name == "nt" else 2]
    seen.clear()
    write_and(tmp_path / "z.txt", lambda: None, overwrite=overwrite)
    assert not seen, "others do not wait"


def test_a_durable_file_that_the_disk_refuses(tmp_path, monkeypatch):
    def refuse(number):
        raise OSError(28, "No space left on device")

    target = tmp_path / "y.txt"
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_and(target, lambda: None, overwrite=True, durable=True)
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="no folder is opened there")
def test_a_durable_file_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    usual = os.open

    def refuse(path, *arguments):
        if path == tmp_path:
            raise PermissionError(13, "Permission denied")
        return usual(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        write_and(tmp_path / "y.txt", lambda: None, durable=True)
    assert (tmp_path / "y.txt").read_text() == "new"


def test_a_file_that_cannot_be_written_is_told_of(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "old")
    write_text(tmp_path / "deep" / "a.txt", "é")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "é".encode()
    with pytest.raises(OSError, match=r"results cannot be written to '.*a.txt.b': .*; make room"):
        write_text(tmp_path / "deep" / "a.txt" / "b", "")
    with pytest.raises(OSError, match=r"^no .*a.txt.b: "):
        write_bytes(tmp_path / "deep" / "a.txt" / "b", b"", "no {path}: {reason}")
