"""Data sets in WebDataset archives: read, bounded, cut short, what is left out."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest
from helpers.streams import IMAGES, LABELS, pngs, same, write_tar

from splic_ext.data import load_dataset, open_source
from splic_ext.data.sources import tarring as tarring_module
from splic_ext.data.sources import webdataset as webdataset_module

__all__ = ["pngs"]  # a fixture


def samples(pngs, label="{}".format, suffix="cls"):
    for index, content in enumerate(pngs):
        yield f"a/{index:04}.png", content
        yield f"a/{index:04}.{suffix}", label(LABELS[index]).encode()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_webdataset(tmp_path, pngs, mode, format):
    name = "mine.tar.gz" if mode == "w:gz" else "mine.tar"
    files = [*samples(pngs), ("a/notes.txt", b"text")]
    path = write_tar(tmp_path / name, files, mode, format=format)
    with pytest.warns(UserWarning, match="files of other kinds are passed over: 1 in"):
        data = load_dataset(path)
    assert same(data)
    assert data.name == "mine"
    assert len(load_dataset(path, limit=2)) == 2
    source = open_source(path)
    assert source.count is None
    with pytest.raises(TypeError, match=r"the length of .* is not known before it is read"):
        len(source)
    assert [s.key for s in source] == [f"a/{k:04}" for k in range(5)]


def test_labels_of_webdataset(tmp_path, pngs):
    path = tmp_path / "mine.tar"
    write_tar(path, samples(pngs, '{{"label": {}, "more": [1]}}'.format, "json"))
    assert same(load_dataset(path))
    names = ["ant", "bee", "cat"]
    write_tar(path, samples(pngs, lambda n: names[n]))
    assert same(load_dataset(path), tuple(names))
    data = load_dataset(path, limit=2)
    assert (data.classes, data.labels.tolist()) == (tuple(names), [2, 0])
    write_tar(path, samples(pngs, lambda n: json.dumps({"cls": names[n]}), "json"))
    assert same(load_dataset(path), tuple(names))
    both = [*samples(pngs), *(())]
    both.insert(0, ("a/0000.json", b'{"label": 1}'))
    write_tar(path, both)
    assert same(load_dataset(path))  # the .cls counts


def test_long_names(tmp_path, pngs):
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "ä" * 60 + "/" + "b" * 120
        path = write_tar(
            tmp_path / "mine.tar", [(f"{name}.png", pngs[0]), (f"{name}.cls", b"0")], format=format
        )
        (sample,) = open_source(path)
        assert sample.key == name


def test_shards(tmp_path, pngs, monkeypatch):
    files = list(samples(pngs))
    (tmp_path / "mine").mkdir()
    write_tar(tmp_path / "mine" / "s-08.tar", files[:4])
    write_tar(tmp_path / "mine" / "s-09.tar", files[4:])
    data = load_dataset(tmp_path / "mine")
    assert same(data)
    assert data.name == "mine"
    assert same(load_dataset(tmp_path / "mine" / "s-{08..09}.tar"))
    assert same(load_dataset(f"{tmp_path}/mine/s-{{08,09}}.tar"))
    assert [s.key for s in open_source(tmp_path / "mine")][:3:2] == ["s-08.tar:a/0000",
                                                                     "s-09.tar:a/0002"]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"s-10.tar' does not exist; check the numbers"):
        load_dataset(tmp_path / "mine" / "s-{08..10}.tar")
    for pattern in ("s-{9..8}.tar", "s-{0..999999999}.tar", "s-{0..999}{0..999}.tar"):
        with pytest.raises(ValueError, match="must stand for 1 to 100,000 files, got"):
            load_dataset(tmp_path / "mine" / pattern)


def special(name, kind):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "/etc/passwd"
    return info, b""


def test_what_is_left_out_of_an_archive(tmp_path, pngs):
    files = [
        *samples(pngs),
        special("a/link.png", tarfile.SYMTYPE),
        special("a/hard.png", tarfile.LNKTYPE),
        special("a/device.png", tarfile.CHRTYPE),
        special("a/folder", tarfile.DIRTYPE),
        ("../out.png", pngs[0]),
        ("/abs.png", pngs[0]),
        ("a/0001.png", pngs[0]),
        ("b/0.png", pngs[0]),
        ("b/0.png", pngs[0]),
        ("b/1.cls", b"0"),
        ("b/2.png", pngs[0]),
        ("b/2.cls", b"-1"),
        ("b/3.png", pngs[0]),
        ("b/3.json", b'{"label": 0.5}'),
        ("b/4.png", pngs[0]),
        ("b/4.json", b"[" * 5000),
        ("b/5.png", b"damaged"),
        ("b/5.cls", b"1"),
        ("b/6.png", pngs[0]),
        ("b/6.cls", b"\xff\xfe"),
        ("b/7.png", pngs[0]),
        ("b/7.cls", b"9" * 18),
    ]
    path = write_tar(tmp_path / "mine.tar", files)
    with pytest.warns(UserWarning, match="cannot be read and are left out"):
        data = load_dataset(path)
    assert same(data)
    reasons = {}
    for found in data.unread:
        reasons.setdefault(found.key, found.reason)
    assert reasons == {
        "a/link.png": "it is a link",
        "a/hard.png": "it is a link",
        "a/device.png": "it is a device",
        "../out.png": "its name leads out of the archive",
        "/abs.png": "its name leads out of the archive",
        "a/0001.png": "its key comes twice",
        "b/0.png": "its key comes twice",
        "b/0": "it has no label",
        "b/1": "it has no image",
        "b/2": "its label -1 is outside [0, 1048575]",
        "b/3.json": "its label is no integer or name but 0.5",
        "b/3": "it has no label",
        "b/4.json": "its label is no JSON",
        "b/4": "it has no label",
        "b/5": "it is no BMP, JPEG, PNG, PPM, TIFF or WebP image, or is cut short",
        "b/6.cls": "its label is no text",
        "b/6": "it has no label",
        "b/7": "its label 999999999999999999 is outside [0, 1048575]",
    }


def test_sparse_files_are_refused(tmp_path, pngs):
    info, _ = special("b.png", tarfile.GNUTYPE_SPARSE)
    path = write_tar(tmp_path / "old.tar", [*samples(pngs), (info, b"")])
    with pytest.warns(UserWarning, match="'b.png' is a sparse file; write it without"):
        assert same(load_dataset(path))
    info = tarfile.TarInfo("b.png")
    info.pax_headers = {"GNU.sparse.major": "1"}
    path = write_tar(tmp_path / "new.tar", [*samples(pngs), (info, pngs[0]), ("b.cls", b"0")])
    with pytest.warns(UserWarning, match="b.png' .it is a sparse file"):
        assert same(load_dataset(path))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_that_are_cut_short(tmp_path, pngs, mode):
    path = write_tar(tmp_path / "mine.tar", samples(pngs), mode)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] if mode == "w:gz" else content[:3000])
    with pytest.warns(UserWarning, match="what follows 'a/000.' is not read: it"):
        data = load_dataset(path)
    assert 0 < len(data) < 5
    assert np.array_equal(data.images, IMAGES[: len(data)])


def test_damaged_headers(tmp_path, pngs):
    path = write_tar(tmp_path / "mine.tar", samples(pngs))
    content = bytearray(path.read_bytes())
    at = content.find(b"a/0002.png")
    content[at + 3] ^= 8  # the checksum no longer fits
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="it has a damaged header: bad checksum"):
        assert len(load_dataset(path)) == 2
    path.write_bytes(content[:at] + bytes(600) + content[at:])  # what follows the end is not read
    assert len(load_dataset(path)) == 2


def test_bounds_of_archives(tmp_path, pngs, monkeypatch):
    path = write_tar(tmp_path / "bomb.tar", [*samples(pngs), ("z.png", bytes(10**7))], "w:gz")
    assert path.stat().st_size < 10**5
    with pytest.warns(UserWarning, match="its 10,000,000 bytes are more than 1,000,000"):
        assert len(load_dataset(path, max_bytes=10**6)) == 5
    with pytest.warns(
        UserWarning, match="is not read: it unpacks to more than the limit of 10,500"
    ):
        assert 0 < len(load_dataset(path, max_bytes=10_500, resize=4)) <= 5
    monkeypatch.setattr(webdataset_module, "MOST_LABEL", 3)
    files = [*samples(pngs), ("z.png", pngs[0]), ("z.cls", b"0000")]
    with pytest.warns(UserWarning, match="a label of 4 bytes"):
        assert len(load_dataset(write_tar(tmp_path / "long.tar", files))) == 5
    monkeypatch.setattr(tarring_module, "MOST_META", 100)
    files = [*samples(pngs), ("b" * 200, b"")]
    path = write_tar(tmp_path / "name.tar", files, format=tarfile.GNU_FORMAT)
    with pytest.warns(UserWarning, match="it has a name or metadata of 201 bytes"):
        assert len(load_dataset(path)) == 5


def test_archives_without_a_sample(tmp_path, pngs):
    path = write_tar(tmp_path / "mine.tar", [("a.png", pngs[0]), ("b.png", pngs[1])])
    with pytest.raises(
        ValueError, match=r"no image of .* can be read: the file 'a' \(it has no lab"
    ):
        load_dataset(path)
    (tmp_path / "empty").mkdir()
    write_tar(tmp_path / "empty" / "none.tar", [])
    with pytest.raises(ValueError, match=r"no image of .*empty' can be read; check what it holds"):
        load_dataset(tmp_path / "empty")


def test_archives_beside_folders_of_classes(tmp_path, pngs):
    write_tar(tmp_path / "mine.tar", samples(pngs))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("text")
    assert same(load_dataset(tmp_path))
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "0.png").write_bytes(pngs[0])
    with pytest.raises(ValueError, match=r"holds archives, and images in the folder 'ant'; move"):
        load_dataset(tmp_path)
