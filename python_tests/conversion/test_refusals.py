"""Bad input: refused or listed by name, and nothing is overwritten unless told."""

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest
from helpers.conversion import contents, convert, pixels, png, samples, write_tar

import splic_ext
from splic_ext.conversion import verify

IMAGES = pixels(4)


def member(name, kind, **values):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in values.items():
        setattr(info, key, value)
    return info


def rejects(folder):
    lines = (folder / "rejects.jsonl").read_text().splitlines()
    return {reject["key"]: reject["reason"] for reject in map(json.loads, lines)}


@pytest.fixture
def source(tmp_path):
    write_tar(tmp_path / "in/a.tar", samples(IMAGES))
    return tmp_path / "in"


def test_members_of_an_archive_that_are_no_files(tmp_path):
    content = png(IMAGES[0])
    write_tar(
        tmp_path / "in/a.tar",
        [
            ("good.png", content),
            ("../out.png", content),
            ("/root.png", content),
            (member("link.png", tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
            (member("hard.png", tarfile.LNKTYPE, linkname="good.png"), b""),
            (member("device.png", tarfile.CHRTYPE), b""),
            (member("pipe.png", tarfile.FIFOTYPE), b""),
            ("two.png", content),
            ("two.jpg", content),
            ("text.txt", b"no image"),
            ("broken.png", content[:40]),
            ("good.png", content),
            ("last.png", content),
        ],
    )
    done = convert(tmp_path / "in", tmp_path / "out")
    assert (done.written, done.rejected) == (2, 10)
    found = rejects(tmp_path / "out")
    for key, word in {
        "../out": "leads out", "/root": "leads out", "link": "a link", "hard": "a link",
        "device": "a device", "pipe": "a pipe", "two": "two images", "text": "no image",
        "broken": "not a PNG", "good": "twice",
    }.items():  # fmt: skip
        assert word in found[key], (key, found[key])
    assert set(contents(tmp_path / "out")) == {"a.tar", "rejects.jsonl"}


def test_an_archive_that_is_cut_short_lists_where(tmp_path):
    path = write_tar(tmp_path / "in/a.tar", samples(IMAGES))
    path.write_bytes(path.read_bytes()[: 8 * 512 + 200])
    done = convert(tmp_path / "in", tmp_path / "out")
    assert done.written == 1
    assert any("is not read on" in reason for reason in rejects(tmp_path / "out").values())
    with pytest.raises(splic_ext.ConversionError, match="`strict`"):
        convert(tmp_path / "in", tmp_path / "strict", strict=True)


def test_a_sparse_header_ends_the_archive(tmp_path):
    sparse = member("s.png", tarfile.GNUTYPE_SPARSE)
    write_tar(tmp_path / "in/a.tar", [*samples(IMAGES[:1]), (sparse, b"")])
    convert(tmp_path / "in", tmp_path / "out")
    assert any("sparse" in reason for reason in rejects(tmp_path / "out").values())


def test_parquet_that_does_not_fit(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "in"
    folder.mkdir()
    parquet.write_table(arrow.table({"picture": [b"x"], "label": [0]}), folder / "a.parquet")
    with pytest.raises(ValueError, match=r"must hold a column image or img.*picture \(binary\)"):
        convert(folder, tmp_path / "out")
    table = arrow.table({"image": [png(image) for image in IMAGES], "label": [0, 1, 2, 3]})
    parquet.write_table(table, folder / "a.parquet")
    with pytest.raises(ValueError, match="bytes in a row group, more than the limit of 99"):
        convert(folder, tmp_path / "out", max_bytes=99)
    parquet.write_table(table.append_column("x", [[1, 2, 3, 4]]), folder / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet' must have the columns of the first"):
        convert(folder, tmp_path / "out")


def test_a_destination_with_other_files(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"not empty: it holds 'mine.txt'"):
        convert(source, out)
    convert(source, out, overwrite=True)
    assert (out / "mine.txt").read_text() == "keep"


def test_a_manifest_of_another_conversion(source, tmp_path):
    convert(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="holds another conversion: `seed` was 0 and is 1: name"):
        convert(source, tmp_path / "out", seed=1)
    assert contents(tmp_path / "out") == before
    write_tar(source / "b.tar", samples(IMAGES))
    with pytest.raises(ValueError, match=r"is not what it was .* 'b.tar' is new"):
        convert(source, tmp_path / "out")
    done = convert(source, tmp_path / "out", seed=1, overwrite=True)
    assert (done.made, verify(tmp_path / "out")) == (2, [])
    (tmp_path / "out/manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest .* cannot be read"):
        convert(source, tmp_path / "out", seed=1)


def test_a_manifest_of_another_version(source, tmp_path, monkeypatch):
    convert(source, tmp_path / "out")
    monkeypatch.setattr(splic_ext, "__version__", "99.0")
    with pytest.raises(ValueError, match=r'`version` was "[0-9.]+" and is "99.0"'):
        convert(source, tmp_path / "out")


def test_a_source_that_changes_under_the_run(source, tmp_path, monkeypatch):
    from splic_ext.conversion import shards

    make = shards.make_shard

    def touched(*arguments):
        os.utime(source / "a.tar", ns=(1, 1))
        return make(*arguments)

    monkeypatch.setattr("splic_ext.conversion.worker.make_shard", touched)
    with pytest.raises(splic_ext.ConversionError, match=r"'a.tar' .* has changed under the run"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out/a.tar").exists()


def test_a_shard_that_vanishes_fails_alone(tmp_path, monkeypatch):
    from splic_ext.conversion import shards

    for name in "abc":
        write_tar(tmp_path / f"in/{name}.tar", samples(IMAGES))
    make = shards.make_shard

    def vanishing(*arguments):
        (tmp_path / "in/b.tar").unlink(missing_ok=True)
        return make(*arguments)

    monkeypatch.setattr("splic_ext.conversion.worker.make_shard", vanishing)
    with pytest.raises(splic_ext.ConversionError, match="1 of 3 shards could not be made") as error:
        convert(tmp_path / "in", tmp_path / "out")
    assert error.value.failed == ("b",)
    assert {path.name for path in (tmp_path / "out").glob("*.tar")} == {"a.tar", "c.tar"}


def test_verify_finds_a_changed_byte(source, tmp_path):
    convert(source, tmp_path / "out")
    path = tmp_path / "out/a.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    assert verify(tmp_path / "out") == ["'a.tar': its content has changed"]
    path.unlink()
    assert "cannot be read" in verify(tmp_path / "out")[0]
    assert convert(source, tmp_path / "out").made == 1
    assert verify(tmp_path / "out") == []
    with pytest.raises(ValueError, match="holds no manifest"):
        verify(source)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("to", "zip", "`to` must be one of folder, tar"),
        ("encode", "gif", "`encode` must be one of keep, png"),
        ("engine", "slurm", "`engine` must be one of local, ray"),
        ("shard_size", 0, "`shard_size` must be an integer"),
        ("workers", -1, "`workers` must be an integer"),
        ("defense", 3, "`defense` must be a text"),
    ],
)
def test_parameters(source, tmp_path, name, value, match):
    with pytest.raises((ValueError, TypeError), match=match):
        convert(source, tmp_path / "out", **{name: value})


def test_places(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convert(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="must not be in the source"):
        convert(source, source / "out")
    (source / "x.png").write_bytes(png(IMAGES[0]))
    with pytest.raises(ValueError, match="must hold one kind of files"):
        convert(source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image file"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="must be a data set, got one image"):
        convert(source / "x.png", tmp_path / "out")
    broken = tmp_path / "broken/a.tar"
    broken.parent.mkdir()
    broken.write_bytes(io.BytesIO(b"x" * 2048).getvalue())
    with pytest.raises(ValueError, match="holds no sample that can be read"):
        convert(tmp_path / "broken", tmp_path / "out")
