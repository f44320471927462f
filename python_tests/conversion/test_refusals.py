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
    write_tar(tmp_path / "in/a.tar", [*samples(IMAGES[:2]), (sparse, b"")])
    assert convert(tmp_path / "in", tmp_path / "out").written == 1
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


def test_a_destination_around_the_source(source, tmp_path):
    """Even if told to overwrite: a shard would take the place of its source."""
    before = (source / "a.tar").read_bytes()
    with pytest.raises(ValueError, match="must not hold the source"):
        convert(source / "a.tar", source, overwrite=True)
    assert (source / "a.tar").read_bytes() == before


def test_two_shards_of_one_name(source, tmp_path):
    import gzip

    (source / "a.tar.gz").write_bytes(gzip.compress((source / "a.tar").read_bytes()))
    with pytest.raises(ValueError, match="two shards would be named 'a'; rename"):
        convert(source, tmp_path / "out")
    (source / "images-a.tar").write_bytes((source / "a.tar").read_bytes())
    (source / "a.tar.gz").unlink()
    with pytest.raises(ValueError, match="two shards would be named 'images-a'"):
        convert(source, tmp_path / "out", to="npy")
    assert convert(source, tmp_path / "tar").written == 8


def test_arrays_that_cannot_hold_what_there_is(source, tmp_path):
    with pytest.raises(ValueError, match=r"images 3 x 32 x 32 of uint8, got 3 x 8 x 8 .* with lab"):
        convert(source, tmp_path / "out", to="cifar10")
    write_tar(source / "a.tar", [("0.png", png(IMAGES[0])), ("0.cls", b"cat")])
    with pytest.raises(ValueError, match="must have integer labels, got texts"):
        convert(source, tmp_path / "out", to="npy")


def test_a_source_whose_disk_fails_for_a_while(tmp_path, monkeypatch):
    """It fails its shards, and no image is listed for it: the same call makes them."""
    from splic_ext.conversion.places import Place

    folder = tmp_path / "in"
    folder.mkdir()
    for number, image in enumerate(IMAGES):
        (folder / f"{number}.png").write_bytes(png(image))
    read = Place.read

    def failing(self, name=""):
        if name in ("1.png", "2.png"):
            raise OSError(5, "Input/output error", name)
        return read(self, name)

    monkeypatch.setattr(Place, "read", failing)
    with pytest.raises(splic_ext.ConversionError, match=r"2 of 4 shards .* Input/output error"):
        convert(folder, tmp_path / "out", shard_size=1)
    monkeypatch.undo()
    done = convert(folder, tmp_path / "out", shard_size=1)
    assert (done.made, done.written, done.rejected) == (2, 4, 0)
    convert(folder, tmp_path / "right")
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet"])
def test_images_at_bad_places_of_a_disk_are_listed_if_asked(tmp_path, monkeypatch, kind):
    """The place goes bad after the plan was made; an archive is read on at its next mark."""
    from splic_ext.conversion.places import Place

    monkeypatch.setattr("splic_ext.conversion.readers.tar.STEP", 2)
    images = pixels(7, (96, 96, 3) if kind == "parquet" else (8, 8, 3))
    write_tar(tmp_path / "in/a.tar", samples(images))
    source = tmp_path / "in"
    if kind != "tar":
        if kind == "parquet":
            pytest.importorskip("pyarrow")
        convert(source, tmp_path / "other", to=kind, encode="png")
        source = tmp_path / "other"
        (source / "manifest.json").unlink()
        (source / "rejects.jsonl").unlink()
    opened = Place.open
    bad = png(images[2])[60:70]

    class Failing(io.BytesIO):
        def read(self, size=-1):
            at = self.tell()
            content = super().read(size)
            place = self.getvalue().find(self.bad)
            if place > -1 and at < place + 10 and at + len(content) > place:
                raise OSError(5, "Input/output error")
            return content

    if kind != "tar":
        name = {"folder": "2/0002.png", "parquet": "a.parquet"}[kind]
        content = (source / name).read_bytes()
        middle = len(content) // 2
        bad = content[middle : middle + 10]
    Failing.bad = bad

    def opens(self, name=""):
        if self.text != str(source):
            return opened(self, name)
        with opened(self, name) as file:
            return Failing(file.read())

    make = "splic_ext.conversion.worker.make_shard"
    from splic_ext.conversion.shards import make_shard

    def later(*arguments):
        monkeypatch.setattr(Place, "open", opens)
        return make_shard(*arguments)

    monkeypatch.setattr(make, later)
    with pytest.raises(splic_ext.ConversionError, match="Input/output error"):
        convert(source, tmp_path / "out")
    monkeypatch.setattr(Place, "open", opened)
    done = convert(source, tmp_path / "out", skip_unreadable=True)
    monkeypatch.undo()
    assert (done.made, done.images) == (1, 7)
    listed = rejects(tmp_path / "out")
    assert any("Input/output error" in reason for reason in listed.values())
    assert verify(tmp_path / "out") == []
    if kind == "tar":
        assert (done.written, done.rejected) == (5, 2)
        found = dict.fromkeys(listed)
        assert set(found) == {"0002", "00000003"}
    if kind == "folder":
        assert (done.written, done.rejected) == (6, 1)
    assert done.written + done.rejected == 7


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_shard_whose_disk_fails_for_a_while(source, tmp_path, monkeypatch, kind):
    """Neither when it is looked through nor when it is made is the rest of it listed."""
    from splic_ext.conversion.places import Place

    if kind == "parquet":
        pytest.importorskip("pyarrow")
        convert(source, tmp_path / "parquet", to="parquet")
        source = tmp_path / "parquet"
        (source / "manifest.json").unlink()
        (source / "rejects.jsonl").unlink()
    opened, faults = Place.open, []

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if faults and self.tell() > 600 and self.tell() < len(self.getvalue()) - 1024:
                raise OSError(5, "Input/output error")
            return super().read(size)

    def opens(self, name=""):
        with opened(self, name) as file:
            return Failing(file.read())

    monkeypatch.setattr(Place, "open", opens)
    faults.append(1)
    if kind == "tar":
        with pytest.raises(OSError, match="Input/output error"):
            convert(source, tmp_path / "out")
    faults.clear()
    make = "splic_ext.conversion.worker.make_shard"
    from splic_ext.conversion.shards import make_shard

    def later(*arguments):
        faults.append(1)
        return make_shard(*arguments)

    monkeypatch.setattr(make, later)
    with pytest.raises(splic_ext.ConversionError, match=r"1 of 1 shards .* Input/output error"):
        convert(source, tmp_path / "out")
    monkeypatch.undo()
    done = convert(source, tmp_path / "out")
    assert (done.written, done.rejected) == (4, 0)


def test_records_of_a_run_whose_plan_was_damaged(tmp_path, monkeypatch):
    """They are none of the run that begins anew, though its files have the same size."""
    import numpy as np

    from splic_ext.conversion import worker

    np.save(tmp_path / "images.npy", pixels(4))
    make, made = worker.make_shard, []

    def two(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(worker, "make_shard", two)
    arguments = {"shard_size": 1, "defense": None}
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "images.npy", tmp_path / "out", **arguments)
    (tmp_path / "out/.splic-convert/plan.json").write_text("{")
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "images.npy", tmp_path / "out", seed=9, overwrite=True, **arguments)
    made.clear()
    monkeypatch.undo()
    convert(tmp_path / "images.npy", tmp_path / "out", seed=9, **arguments)
    assert verify(tmp_path / "out") == []
    convert(tmp_path / "images.npy", tmp_path / "right", seed=9, **arguments)
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


def test_a_manifest_that_names_files_elsewhere(source, tmp_path):
    convert(source, tmp_path / "out")
    (tmp_path / "precious").write_text("keep")
    path = tmp_path / "out/manifest.json"
    path.write_text(path.read_text().replace('"a.tar", "sha', '"../precious", "sha'))
    assert "../precious" in path.read_text()
    with pytest.raises(ValueError, match="it names a file elsewhere"):
        verify(tmp_path / "out")
    convert(source, tmp_path / "out", seed=1, overwrite=True)
    assert (tmp_path / "precious").read_text() == "keep"


def test_memory_of_this_process_is_not_that_of_a_cluster(tmp_path):
    pytest.importorskip("fsspec")
    with pytest.raises(ValueError, match="seen by all nodes"):
        splic_ext.convert("memory://in", tmp_path / "out", engine="ray")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: json.dumps(json.loads(text), indent=1), "does not end where those of the sh"),
        (lambda text: text[: text.rindex("\n]}")], "it is cut short"),
        (lambda text: text.replace(text.splitlines()[2] + "\n", ""), "it lacks the shard 'b'"),
    ],
)
def test_a_manifest_whose_lines_are_not_those_of_a_run(source, tmp_path, change, reason):
    """It is refused, and taken for none if it may be overwritten."""
    for name in "bc":
        write_tar(source / f"{name}.tar", samples(IMAGES))
    convert(source, tmp_path / "out")
    path = tmp_path / "out/manifest.json"
    right = path.read_text()
    path.write_text(change(right))
    assert path.read_text() != right
    for call in (lambda: convert(source, tmp_path / "out"), lambda: verify(tmp_path / "out")):
        with pytest.raises(ValueError, match=rf"manifest .* cannot be read: .*{reason}"):
            call()
    convert(source, tmp_path / "out", overwrite=True)
    assert path.read_text() == right
