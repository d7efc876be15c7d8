"""The program itself: settings that cannot work, a stop in the middle of an upload, what it tells."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness.rawhttp import address, exchange
from harness.sdk import connect, read
from harness.server import Server
from harness.signer import Request, sign


def refused(binary, home, *arguments):
    """Runs a server that must not start; returns what it said. Nothing may have been written."""
    home.mkdir(exist_ok=True)
    before = sorted(os.listdir(home))
    done = subprocess.run(
        [binary, "server", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", *arguments],
        cwd=home, capture_output=True, text=True, timeout=30,
    )
    assert done.returncode not in (0, 101), done
    assert sorted(os.listdir(home)) == before, "something was written"
    return done.stderr


def test_settings_that_cannot_work_are_refused_before_anything_is_written(binary, tmp_path):
    home = tmp_path / "home"
    three = ["a", "b", "c"]
    assert "4+2" in refused(binary, home, *three, "--coding", "4+2")
    refused(binary, home, *three, "--coding", "0+2")
    refused(binary, home, *three, "--coding", "many")
    refused(binary, home, "a", "a", "b")
    refused(binary, home, *three, "--listen", "nowhere")
    (tmp_path / "wrong.toml").write_text("colour = 'grey'\n")
    assert "colour" in refused(binary, home, *three, "--config", tmp_path / "wrong.toml")
    refused(binary, home, *three, "--config", tmp_path / "missing.toml")


def test_a_directory_of_another_cluster_is_refused(new_server, binary, tmp_path):
    first, second = new_server("first"), new_server("second")
    for server in (first, second):
        assert server.stop() == 0
    mixed = [*first.directories[:5], second.directories[5]]
    said = refused(binary, tmp_path / "elsewhere", *map(str, mixed))
    assert str(second.directories[5]) in said
    for server in (first, second):
        server.start()


@pytest.mark.parametrize("directories", [1, 2, 3, 4, 5, 6, 8])
def test_any_number_of_directories(new_server, directories):
    server = new_server(directories=directories)
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="few")
    s3.put_object(Bucket="few", Key="k", Body=b"stone" * 100_000)
    assert server.stop() == 0
    server.start()
    assert read(connect(server.endpoint), "few", "k") == b"stone" * 100_000


def test_no_argument_makes_six_directories_and_credentials(binary, tmp_path):
    log = open(tmp_path / "server.log", "w+b")
    server = subprocess.Popen(
        [binary, "server", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
        cwd=tmp_path, stdout=log, stderr=log,
        env={k: v for k, v in os.environ.items() if not k.startswith("DRYSTONE_")},
    )
    try:
        deadline = time.monotonic() + 30
        while b"listening on" not in (tmp_path / "server.log").read_bytes():
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        log.close()
    said = (tmp_path / "server.log").read_text()
    assert "aws --endpoint-url" in said or "aws " in said, said
    data = tmp_path / "drystone-data"
    assert sum(path.is_dir() for path in data.iterdir()) >= 6
    secrets = [p for p in data.rglob("*") if p.is_file() and "secret" in p.name]
    assert secrets and all(path.stat().st_mode & 0o777 == 0o600 for path in secrets)


def test_stop_waits_for_the_upload_under_way(new_server):
    server = new_server()
    s3 = connect(server.endpoint)
    s3.create_bucket(Bucket="slow")
    body = b"0123456789" * 100_000
    host = server.endpoint.partition("//")[2]
    request = sign(Request("PUT", "/slow/k", (), (("host", host),), body))
    head, rest = request.wire()[: -len(body)], body
    with socket.create_connection(address(server.endpoint), timeout=30) as connection:
        connection.sendall(head + rest[:1000])
        time.sleep(0.2)  # Not to be right: so that the request has certainly begun.
        status = []
        stopping = threading.Thread(target=lambda: status.append(server.stop()))
        stopping.start()
        time.sleep(0.2)
        connection.sendall(rest[1000:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    stopping.join(60)
    assert status == [0]
    server.start()
    assert read(connect(server.endpoint), "slow", "k") == body


def test_status_metrics_and_health(binary, server, s3, bucket):
    if not isinstance(server, Server):
        pytest.skip("the admin listener is not known")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
    read(s3, bucket, "k")
    assert server.admin_get("/health/live")[0] == 200
    assert server.ready()[0] == 200
    command = [binary, "admin", "status", "--endpoint", server.admin]
    options = {"capture_output": True, "text": True, "check": True, "timeout": 30}
    table = subprocess.run(command, **options).stdout
    assert str(server.directories[0]) in table or server.directories[0].name in table
    printed = subprocess.run([*command, "--json"], **options).stdout
    status = json.loads(printed)
    assert len(status["disks"]) == 6
    assert status.keys() == server.status().keys()
    code, metrics = server.admin_get("/metrics")
    assert code == 200
    text = metrics.decode()
    for word in ["PutObject", "GetObject", "fsync", "shard", "raft", "_bucket{"]:
        assert word in text, f"nothing about {word} in the metrics"
    for line in text.splitlines():
        assert line.startswith("#") or not line or len(line.rsplit(" ", 1)) == 2, line


def test_an_answer_instead_of_continue_ends_its_connection(server, s3, bucket):
    # botocore 1.43 takes the status of such an answer for that of the connection's next request,
    # whose own answer it then reads as a body without an end.
    host = server.endpoint.partition("//")[2]
    for body in [b"", b"0123456789"]:
        headers = (("host", host), ("expect", "100-continue"))
        data = sign(Request("PUT", f"/{bucket}/k", (), headers, body)).wire()
        if body:
            data = data[: -len(body)].replace(b"Signature=", b"Signature=0")
        answer = exchange(server.endpoint, data, method="PUT", watch_end=False)
        assert (answer.status, answer.closed) == (400 if body else 200, True)
