"""A server of the S3 protocol on this machine, moto's, that s3fs reaches as it reaches Amazon's.

Workers are other processes, and the commands that are killed too: what they share is the server.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections import Counter

import pytest
from helpers.cli import command, invoke, run_command
from helpers.conversion import FAST, contents, convert, pixels, png, samples, write_tar

import splic_ext
from splic_ext.conversion import verify
from splic_ext.conversion.places import place_of

WANTED = "the extra 'test-remote' is not installed"
s3fs = pytest.importorskip("s3fs", reason=WANTED)
boto3 = pytest.importorskip("boto3", reason=WANTED)
server = pytest.importorskip("moto.server", reason=WANTED)

#: The packages of Amazon warn of themselves.
pytestmark = pytest.mark.filterwarnings("ignore")

OPTIONS = ("--preset", "paper", "--max-iterations", "2", "-q")
ALL = "1000000000"
READ = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}


@pytest.fixture(scope="module")
def endpoint():
    """Serve from a thread of this process, at a free port."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(endpoint, monkeypatch):
    """Give a client, with two empty buckets at the server."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    post(endpoint, "reset")
    log_in(monkeypatch, "test", "test")
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    client.create_bucket(Bucket="other")
    return client


def post(endpoint, what, content=""):
    """Tell the server something that is no request of S3."""
    url = f"{endpoint}/moto-api/{what}"
    headers = {"Content-Type": "text/plain"}
    with urllib.request.urlopen(urllib.request.Request(url, content.encode(), headers)):
        pass


def log_in(monkeypatch, key, secret):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3fs.S3FileSystem.clear_instance_cache()


def put(s3, folder, prefix, bucket="bucket"):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = f"{prefix}/{path.relative_to(folder).as_posix()}"
            s3.put_object(Bucket=bucket, Key=name, Body=path.read_bytes())


def names(s3, bucket="bucket", prefix=""):
    return [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())]


def objects(s3, prefix, bucket="bucket"):
    """Return all objects of a destination but the manifest."""
    return {
        name.removeprefix(f"{prefix}/"): s3.get_object(Bucket=bucket, Key=name)["Body"].read()
        for name in names(s3, bucket, f"{prefix}/")
        if not name.endswith("/manifest.json")
    }


@pytest.fixture
def tars(tmp_path):
    images = pixels(24)
    for number in range(6):
        part = slice(4 * number, 4 * number + 4)
        write_tar(tmp_path / f"in/{number:05}.tar", samples(images[part], 4 * number))
    return tmp_path / "in"


@pytest.fixture
def folder(tmp_path):
    for number, image in enumerate(pixels(7)):
        path = tmp_path / f"in/{'cat' if number % 2 else 'dog'}/{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return tmp_path / "in"


@pytest.fixture
def parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    from pyarrow import parquet

    (tmp_path / "in").mkdir()
    for number in range(2):
        images = [{"bytes": png(image), "path": None} for image in pixels(5, seed=number)]
        table = pa.table({"image": images, "label": list(range(5))})
        parquet.write_table(table, tmp_path / f"in/train-{number:05}-of-00002.parquet")
    return tmp_path / "in"


@pytest.mark.parametrize("kind", ["tars", "folder", "parquet"])
def test_from_one_prefix_to_another(kind, request, s3, tmp_path):
    """Two processes read and write; the bits are those of a run on this machine."""
    source = request.getfixturevalue(kind)
    put(s3, source, "a/b")
    right = convert(source, tmp_path / "right")
    done = splic_ext.convert("s3://bucket/a/b", "s3://bucket/c/d", options=FAST, workers=2)
    assert (done.written, done.rejected) == (right.written, 0)
    found = objects(s3, "c/d")
    assert found == contents(tmp_path / "right")
    assert verify("s3://bucket/c/d") == []
    again = splic_ext.convert("s3://bucket/a/b", "s3://bucket/c/d", options=FAST, workers=2)
    assert again.made == 0
    # Nothing unfinished is left, nor a record of the run.
    assert {*names(s3, prefix="c/")} == {f"c/d/{name}" for name in (*found, "manifest.json")}


def test_from_files_to_a_bucket_and_back(tars, s3, tmp_path):
    """A bucket may be the destination itself."""
    convert(tars, "s3://other")
    convert("s3://other", tmp_path / "twice")
    convert(tars, tmp_path / "once")
    convert(tmp_path / "once", tmp_path / "right")
    assert contents(tmp_path / "twice") == contents(tmp_path / "right")


def test_a_killed_run_goes_on(tars, s3, tmp_path):
    put(s3, tars, "in")
    convert(tars, tmp_path / "right")
    arguments = command("convert", "s3://bucket/in", "s3://bucket/out", *OPTIONS, "--workers", 1)
    process = subprocess.Popen(arguments)
    while not any(name.endswith(".tar") for name in names(s3, prefix="out/")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = objects(s3, "out")
    assert "out/manifest.json" not in names(s3, prefix="out/")
    result = run_command(*arguments[3:], "--verify")
    assert result.returncode == 0, result.stderr
    found = objects(s3, "out")
    assert found == contents(tmp_path / "right")
    # What was there is not made again, and what was half there is gone.
    shards = {name: content for name, content in before.items() if name.endswith(".tar")}
    assert shards.items() <= found.items()


def test_verify_finds_what_has_changed(tars, s3):
    put(s3, tars, "in")
    arguments = ("s3://bucket/in", "s3://bucket/out", *OPTIONS, "--workers", 0, "--verify")
    assert invoke("convert", *arguments).exit_code == 0
    there = s3.get_object(Bucket="bucket", Key="out/00003.tar")["Body"].read()
    s3.put_object(Bucket="bucket", Key="out/00003.tar", Body=there[:-1] + b"x")
    result = invoke("convert", *arguments)
    assert result.exit_code == 1
    assert "'00003.tar': its content has changed" in result.output
    s3.delete_object(Bucket="bucket", Key="out/00003.tar")
    assert invoke("convert", *arguments).exit_code == 0  # it is made again


def test_an_object_that_is_replaced_is_another_source(tars, s3):
    put(s3, tars, "in")
    convert("s3://bucket/in", "s3://bucket/out")
    put(s3, tars, "in")  # the same bits at another time: the same source
    assert convert("s3://bucket/in", "s3://bucket/out").made == 0
    s3.put_object(Bucket="bucket", Key="in/00001.tar", Body=(tars / "00002.tar").read_bytes())
    with pytest.raises(ValueError, match=r"'00001\.tar' has changed"):
        convert("s3://bucket/in", "s3://bucket/out")
    assert convert("s3://bucket/in", "s3://bucket/out", overwrite=True).made == 6


def test_requests_are_as_few_as_the_model_of_costs_says(s3, tmp_path, monkeypatch):
    """Of a shard twelve, its record among them, as benchmarks/simulate_cluster.py counts."""
    asked = []
    call = s3fs.S3FileSystem._call_s3

    def counted(self, method, *arguments, **values):
        asked.append(method)
        return call(self, method, *arguments, **values)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)

    def requests(source, put_in):
        put_in(source)
        put(s3, tmp_path / source, source)
        before = len(asked)
        convert(f"s3://bucket/{source}", f"s3://bucket/{source}-out", shard_size=None)
        return asked[before:]

    def shards(count):
        def put_in(source):
            for number in range(count):
                write_tar(tmp_path / source / f"{number}.tar", samples(pixels(2), 2 * number))

        return put_in

    def files(count):
        def put_in(source):
            (tmp_path / source).mkdir()
            for number, image in enumerate(pixels(count)):
                (tmp_path / source / f"{number}.png").write_bytes(png(image))

        return put_in

    one, three = requests("one", shards(1)), requests("three", shards(3))
    more = Counter(three) - Counter(one)
    assert more == {"get_object": 10, "head_object": 6, "put_object": 4, "delete_object": 4}
    few, many = requests("few", files(2)), requests("many", files(6))
    more = Counter(many) - Counter(few)
    assert more == {"get_object": 4, "head_object": 8, "put_object": 4}


def refused(*arguments):
    """Return what a command says that ends with code 1 and a message."""
    result = invoke("convert", *arguments, *OPTIONS, "--workers", 0)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def test_a_bucket_that_is_missing(tars, s3):
    """None is made: its name may be a slip."""
    assert "'s3://missing/in' does not exist" in refused("s3://missing/in", "s3://bucket/out")
    put(s3, tars, "in")
    told = refused("s3://bucket/in", "s3://missing/out")
    assert "the destination 's3://missing/out' cannot be written" in told
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["bucket", "other"]


@pytest.fixture
def user(s3, endpoint, monkeypatch):
    """Log in as somebody who may do what the statements allow, and nothing else."""
    iam = boto3.client("iam")

    def log_in_as(*statements):
        iam.create_user(UserName="mine")
        if statements:
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_user_policy(UserName="mine", PolicyName="some", PolicyDocument=policy)
        made = iam.create_access_key(UserName="mine")["AccessKey"]
        post(endpoint, "reset-auth", "0")
        log_in(monkeypatch, made["AccessKeyId"], made["SecretAccessKey"])

    yield log_in_as
    post(endpoint, "reset-auth", ALL)


def test_a_source_that_may_not_be_read(tars, s3, user):
    put(s3, tars, "in")
    user()
    told = refused("s3://bucket/in", "s3://bucket/out")
    assert "'s3://bucket/in' cannot be reached: Forbidden; check the URL" in told


def test_a_destination_that_may_not_be_written(tars, s3, user):
    put(s3, tars, "in")
    user(READ)
    told = refused("s3://bucket/in", "s3://bucket/out")
    assert "the destination 's3://bucket/out' cannot be written: " in told
    assert "Access Denied" in told


def test_who_may_write_below_a_prefix_alone(tars, s3, user, tmp_path):
    """Listing the bucket is not asked for, nor to make one."""
    put(s3, tars, "in")
    below = {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::bucket/out/*"}
    user(READ, below)
    convert("s3://bucket/in", "s3://bucket/out")
    convert(tars, tmp_path / "right")
    assert (
        place_of("s3://bucket/out").read("00005.tar") == contents(tmp_path / "right")["00005.tar"]
    )


def test_nobody_is_logged_in(tars, s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    told = refused("s3://bucket/in", "s3://bucket/out")
    assert "credentials" in told
    told = refused(tars, "s3://bucket/out")
    assert "credentials" in told


def test_a_server_that_is_away(tars, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "'s3://bucket/in'" in refused("s3://bucket/in", "s3://bucket/out")
    assert "'s3://bucket/out'" in refused(tars, "s3://bucket/out")
