"""Every kind of source and destination: images are completed, what belongs to them goes along."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.conversion import (
    FAST,
    contents,
    convert,
    decoded,
    expected,
    pixels,
    png,
    read_tar,
    samples,
    write_tar,
)

import splic_ext
from splic_ext.conversion import verify

IMAGES = pixels(7)


@pytest.fixture
def tars(tmp_path):
    """Two archives of seven images."""
    source = tmp_path / "source"
    write_tar(source / "train-00000.tar", samples(IMAGES[:4]))
    write_tar(source / "train-00001.tar", samples(IMAGES[4:], 4))
    return source


def test_tar_keeps_shards_and_what_belongs_to_a_sample(tars, tmp_path):
    done = convert(tars, tmp_path / "out")
    assert (done.images, done.written, done.rejected, done.shards) == (7, 7, 0, 2)
    right = expected(IMAGES)
    for name, first, stop in (("train-00000", 0, 4), ("train-00001", 4, 7)):
        found = read_tar(tmp_path / "out" / f"{name}.tar")
        assert len(found) == 3 * (stop - first)
        for number in range(first, stop):
            assert np.array_equal(decoded(found[f"{number:04}.png"]), right[number])
            assert found[f"{number:04}.cls"] == str(number % 3).encode()
            assert json.loads(found[f"{number:04}.json"]) == {"n": number}


def test_the_manifest_has_hashes_options_seed_version_and_counts(tars, tmp_path):
    convert(tars, tmp_path / "out", seed=5)
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert manifest["counts"] == {"images": 7, "written": 7, "rejected": 0, "shards": 2}
    assert manifest["identity"]["seed"] == 5
    assert manifest["identity"]["version"] == splic_ext.__version__
    assert manifest["identity"]["options"]["max_iterations"] == 2
    for part in (*manifest["inputs"], *(f for o in manifest["outputs"] for f in o["files"])):
        assert len(part["sha256"]) == 64
    assert verify(tmp_path / "out") == []
    assert not (tmp_path / "out/.splic-convert").exists()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_shards_of_any_size_hold_the_same_images(tars, tmp_path, size):
    done = convert(tars, tmp_path / "out", shard_size=size)
    assert done.shards == -(-7 // size)
    found = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        found |= read_tar(path)
    right = expected(IMAGES)
    for number in range(7):
        assert np.array_equal(decoded(found[f"{number:04}.png"]), right[number])


def test_through_all_kinds(tars, tmp_path):
    """identity changes nothing: through all kinds and back images and labels are the same."""
    pytest.importorskip("torch")
    pytest.importorskip("pyarrow")
    there = tars
    for to in ("parquet", "npy", "folder", "parquet", "folder", "npy", "tar"):
        following = tmp_path / f"{there.name}-{to}"
        done = convert(there, following, to=to, defense="identity")
        assert (done.written, done.rejected) == (7, 0)
        there = following
    found = {}
    for path in there.glob("*.tar"):
        found |= read_tar(path)
    pairs = {
        decoded(content).tobytes(): found[name.replace(".png", ".cls")]
        for name, content in found.items()
        if name.endswith(".png")
    }
    right = {image.tobytes(): str(number % 3).encode() for number, image in enumerate(IMAGES)}
    assert pairs == right


def test_folder_is_what_the_command_complete_makes(tmp_path):
    from splic_ext.conversion.running import Silent
    from splic_ext.files import JobSettings, plan_jobs, run_jobs

    for number, image in enumerate(IMAGES):
        path = tmp_path / f"in/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (tmp_path / "in/a/notes.txt").write_text("no image")
    convert(tmp_path / "in", tmp_path / "out", shard_size=3)
    settings = JobSettings(options=splic_ext.SolverOptions(max_iterations=2))
    run_jobs(plan_jobs([str(tmp_path / "in")], tmp_path / "right"), settings, Silent())
    found = contents(tmp_path / "out")
    assert found.pop("rejects.jsonl") == b""
    assert found == contents(tmp_path / "right")


def test_parquet_keeps_its_other_columns(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": png(image), "path": f"{n}.png"} for n, image in enumerate(IMAGES)]
    images[2] = None
    table = arrow.table(
        {
            "image": images,
            "label": [n % 3 for n in range(7)],
            "caption": [f"number {n}" for n in range(7)],
            "box": [[0.5, float(n)] for n in range(7)],
        }
    )
    source = tmp_path / "data"
    source.mkdir()
    parquet.write_table(table, source / "train-00000-of-00001.parquet", row_group_size=3)
    done = convert(source, tmp_path / "out")
    assert (done.written, done.rejected) == (6, 1)
    made = parquet.read_table(tmp_path / "out/train-00000-of-00001.parquet")
    assert made.schema.equals(table.schema)
    kept = [n for n in range(7) if n != 2]
    assert made.column("caption").to_pylist() == [f"number {n}" for n in kept]
    assert made.column("box").to_pylist() == [[0.5, float(n)] for n in kept]
    right = expected(IMAGES)
    for row, number in enumerate(kept):
        image = made.column("image")[row].as_py()
        assert image["path"] == f"{number}.png"
        assert np.array_equal(decoded(image["bytes"]), right[number])
    (reject,) = (tmp_path / "out/rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["index"] == 2
    assert "null" in json.loads(reject)["reason"]


def test_memory_maps_of_floats(tmp_path):
    images = np.random.default_rng(1).random((5, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    images[1, 0, 0, 0] = np.nan
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.arange(5))
    done = convert(tmp_path / "images.npy", tmp_path / "out")
    assert (done.written, done.rejected) == (4, 1)
    made, labels = (np.load(tmp_path / f"out/{name}.npy") for name in ("images", "labels"))
    assert labels.tolist() == [0, 2, 3, 4]
    right = splic_ext.complete(images[2:], options="paper", first_index=2)
    assert made.dtype == np.float32
    assert made.shape == (4, 3, 8, 8)
    again = convert(tmp_path / "images.npy", tmp_path / "paper", options="paper")
    assert again.written == 4
    assert np.array_equal(np.load(tmp_path / "paper/images.npy")[1:], right)


def test_cifar10_and_back(tmp_path):
    from helpers.data import write_cifar

    from splic_ext.data import load_dataset

    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    done = convert(folder, tmp_path / "out", to="cifar10", shard_size=4)
    assert (done.images, done.shards) == (24, 6)
    for split, first in (("train", 0), ("test", 20)):
        before, after = (load_dataset(place, split) for place in (folder, tmp_path / "out"))
        assert np.array_equal(before.labels, after.labels)
        right = splic_ext.complete(before.images, options=FAST, first_index=first)
        assert np.array_equal(after.images, right)


def test_urls_of_fsspec(tars, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(tars), "/in", recursive=True)
    done = splic_ext.convert(
        "memory://in", "memory://out", options=splic_ext.SolverOptions(max_iterations=2)
    )
    assert done.written == 7
    assert verify("memory://out") == []
    convert(tars, tmp_path / "out")
    for name in ("train-00000.tar", "train-00001.tar"):
        assert memory.cat(f"/out/{name}") == (tmp_path / "out" / name).read_bytes()
    again = splic_ext.convert(
        "memory://in", "memory://out", options=splic_ext.SolverOptions(max_iterations=2)
    )
    assert again.made == 0


def test_a_defence_draws_masks_by_index(tars, tmp_path):
    torch = pytest.importorskip("torch")
    from splic_ext.defenses import USVT

    convert(tars, tmp_path / "a", defense="usvt", seed=3)
    convert(tars, tmp_path / "b", defense="usvt", seed=3, shard_size=2)
    found = read_tar(tmp_path / "a/train-00001.tar")
    images = torch.from_numpy(IMAGES[4:]).permute(0, 3, 1, 2).float() / 255
    right = (USVT(seed=3)(images, index=4).double() * 255).round().byte().permute(0, 2, 3, 1)
    for number in range(4, 7):
        assert np.array_equal(decoded(found[f"{number:04}.png"]), right[number - 4].numpy())
    others = {}
    for path in (tmp_path / "b").glob("*.tar"):
        others |= read_tar(path)
    assert all(others[name] == content for name, content in found.items())


def names_of(folder):
    return {name for name in contents(folder) if not name.endswith(".jsonl")}


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("names", [("a.tar", "b.tar"), ("x/0.tar", "y/0.tar")])
def test_a_folder_of_archives_with_the_same_keys_loses_none(tmp_path, size, names):
    for number, name in enumerate(names):
        write_tar(tmp_path / "in" / name, samples(IMAGES[3 * number : 3 * number + 3]))
    done = convert(tmp_path / "in", tmp_path / "out", to="folder", shard_size=size)
    pngs = [name for name in names_of(tmp_path / "out") if name.endswith(".png")]
    assert (done.written, len(pngs)) == (6, 6)
    right = {image.tobytes() for image in expected(IMAGES[:6])}
    assert {decoded((tmp_path / "out" / name).read_bytes()).tobytes() for name in pngs} == right
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize("encode", ["keep", "png"])
def test_files_of_one_name_and_several_suffixes(tmp_path, encode):
    """Wherever the shards are cut, they have the same names."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, image in zip(("a.jpg", "a.png", "a.PNG", "a.jpg.png", "b.jpg"), IMAGES, strict=False):
        (folder / name).write_bytes(png(image))
    for size in (1, 9):
        options = {"encode": encode, "shard_size": size}
        assert convert(folder, tmp_path / f"{size}", **options).written == 5
        assert verify(tmp_path / f"{size}") == []
    assert contents(tmp_path / "1") == contents(tmp_path / "9")
    here = {"a.jpg", "b.jpg"} if encode == "keep" else {"a.jpg~.png", "b.png"}
    assert names_of(tmp_path / "1") == here | {"a.png", "a.PNG", "a.jpg.png"}


def test_a_table_of_which_no_image_is_left_keeps_its_columns(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"img": [png(IMAGES[0]), b"broken"], "label": ["a", "b"], "n": [1, 2]})
    (tmp_path / "in").mkdir()
    parquet.write_table(table, tmp_path / "in/a.parquet")
    assert convert(tmp_path / "in", tmp_path / "out", shard_size=1).rejected == 1
    made = parquet.read_table(tmp_path / "out/a-00001-of-00002.parquet")
    assert made.schema.equals(table.schema)
    assert len(made) == 0


def test_labels_of_later_images_are_kept(tmp_path):
    """The first image has none, others have numbers and texts."""
    parquet = pytest.importorskip("pyarrow.parquet")
    images = [png(image) for image in IMAGES]
    write_tar(
        tmp_path / "in/a.tar",
        [("0.png", images[0]), ("1.png", images[1]), ("1.cls", b"7"), ("2.png", images[2]),
         ("2.cls", b"cat")],
    )  # fmt: skip
    convert(tmp_path / "in", tmp_path / "out", to="parquet")
    assert parquet.read_table(tmp_path / "out/a.parquet")["label"].to_pylist() == [None, "7", "cat"]
    convert(tmp_path / "in", tmp_path / "folder", to="folder")
    found = {name for name in names_of(tmp_path / "folder") if name.endswith(".png")}
    assert found == {"_/0.png", "7/1.png", "cat/2.png"}


def test_numbers_of_the_other_byte_order(tmp_path):
    images = np.random.default_rng(1).random((2, 1, 8, 600))
    for name, order in (("big", ">f4"), ("own", "=f4")):
        np.save(tmp_path / f"{name}.npy", images.astype(order))
        convert(tmp_path / f"{name}.npy", tmp_path / name)
    found = [np.load(next((tmp_path / name).glob("*.npy"))) for name in ("big", "own")]
    assert np.array_equal(*found)


def test_what_is_left_out_is_told(tmp_path):
    from splic_ext.conversion.running import Silent

    for name in ("in/a.png", "other/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png(IMAGES[0]))
    (tmp_path / "in/c.gif").write_bytes(b"GIF89a")
    (tmp_path / "in/link").symlink_to(tmp_path / "other")
    told = []

    class Listening(Silent):
        def note(self, path, text):
            told.append(text)

    done = convert(tmp_path / "in", tmp_path / "out", reporter=Listening())
    assert (done.images, done.written) == (1, 1)
    assert any("linked folder is left out" in text for text in told)
    assert any("1 of .gif" in text for text in told)


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_is_entered_in_its_midst(tars, tmp_path, monkeypatch, packed):
    """Where each second sample begins is kept; the hash is that of the file."""
    import gzip
    import hashlib

    monkeypatch.setattr("splic_ext.conversion.readers.tar.STEP", 2)
    path = tmp_path / "in/a.tar"
    write_tar(path, [*samples(IMAGES[:6]), (f"{'d' * 120}/{'n' * 120}.png", png(IMAGES[6]))])
    if packed:
        (tmp_path / "in/a.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        path = tmp_path / "in/a.tar.gz"
    convert(tmp_path / "in", tmp_path / "out", shard_size=3)
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    (unit,) = manifest["inputs"]
    assert unit["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(unit["marks"]) == (0 if packed else 4)
    found = {}
    for shard in sorted((tmp_path / "out").glob("*.tar")):
        found |= read_tar(shard)
    pngs = [content for name, content in found.items() if name.endswith(".png")]
    assert np.array_equal(np.stack([decoded(content) for content in pngs]), expected(IMAGES))


def test_unfinished_files_at_a_url_are_removed_after_a_day(monkeypatch):
    """Another run may still write a younger one."""
    fsspec = pytest.importorskip("fsspec")
    from splic_ext.conversion import places

    memory = fsspec.filesystem("memory")
    place = places.place_of("memory://unfinished")
    path = f"/unfinished/{places.UNFINISHED}0123-a.tar"
    memory.pipe(path, b"half")
    place.clean(iter([""]))
    assert memory.exists(path)
    for age in (2 * places.DAY, -2 * places.DAY):  # of a clock that was wrong
        monkeypatch.setattr(type(place), "_age", lambda self, name, age=age: age)
        memory.pipe(path, b"half")
        place.clean(iter([""]))
        assert not memory.exists(path)
