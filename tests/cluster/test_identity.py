"""Who may come in: hosts with a good token or certificate, and nobody else. Secrets stay secret."""

import os
import re
import shutil
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.certificates import (
    DAY,
    Authority,
    client_context,
    read_certificate,
    read_key,
    write_certificate,
    write_self_signed,
)
from lab.cluster import S3_PORT, Cluster, CommandFailed
from lab.process import http_get, wait_until
from lab.secrets import decode_token, encode_token, secrets_of

# At the memory of a process, to find what it keeps.
LOOKS = 3


@pytest.fixture(scope="module")
def opened(binary, new_network, tmp_path_factory):
    """A small cluster, and its authority, taken from the founder before its first start."""
    home = tmp_path_factory.mktemp("opened") / "cluster"
    cluster = Cluster(binary, home, new_network(), metadata=1, storage=3, gateways=1, coding="2+1")
    try:
        cluster.init("m1")
        host = cluster.host_directory("m1")
        authority = Authority.read(host / "authority.crt", host / "authority.key")
        cluster.process("metadata", "m1").start()
        cluster.let_in(cluster.joiners())
        cluster.balance()
        cluster.wait_healthy()
        # So that a node that stays outside is soon told to be down.
        cluster.ask("upkeep", "set", "--suspect-after", "2s", "--down-after", "4s", name="g1")
        yield cluster, authority
    finally:
        cluster.remove()
    assert not cluster.leaks, cluster.leaks


def test_the_authoritys_key_is_kept_by_the_metadata_alone(opened):
    cluster, _ = opened
    assert not list(cluster.home.rglob("authority.key"))


def test_what_opens_the_authoritys_key_is_with_metadata_nodes_alone(opened):
    cluster, _ = opened
    has_key = {
        path.parent for path in cluster.home.rglob("secrets.toml")
        if "authority_seal_key" in path.read_text()
    }
    assert has_key == {cluster.host_directory("m1")}
    assert (cluster.host_directory("m1") / "secrets.toml").stat().st_mode & 0o777 == 0o600


def disk_states(cluster, name):
    """The states of a host's disks, as the cluster sees them."""
    node = cluster.node_id(name)
    return [disk["state"] for disk in cluster.status()["disks"] if disk["node"] == node]


@pytest.mark.parametrize("flaw", ["expired", "foreign"])
def test_a_node_whose_certificate_is_not_good_stays_outside(opened, drill, flaw):
    cluster, authority = opened
    host, victim = cluster.host_directory("s1"), cluster.processes["s1"]
    good = (host / "node.crt").read_bytes()
    assert victim.stop() == 0
    if flaw == "expired":
        bad = authority.issue(read_certificate(host), read_key(host), begins=-3 * DAY, ends=-DAY)
    else:
        bad = Authority.invent(authority).issue(read_certificate(host), read_key(host))
    write_certificate(host, bad)
    victim.launch()
    wait_until(
        lambda: re.search("certificate|TLS|tls", victim.log.read_text().split("stopped")[-1]), 20,
        lambda: f"it says why it can't come in\n{victim.tail()}",
    )
    # A process that gave up is as good as one that goes on trying.
    wait_until(lambda: "up" not in disk_states(cluster, "s1"), 30, lambda: disk_states(cluster, "s1"))
    assert victim.ready()[0] != 200
    victim.kill()
    (host / "node.crt").write_bytes(good)
    victim.start()
    cluster.wait_healthy()


def test_a_node_whose_certificate_ended_comes_back_under_its_number(opened):
    cluster, authority = opened
    host, victim = cluster.host_directory("s1"), cluster.processes["s1"]
    node = cluster.node_id("s1")
    assert victim.stop() == 0
    ended = authority.issue(read_certificate(host), read_key(host), begins=-3 * DAY, ends=-DAY)
    write_certificate(host, ended)
    victim.launch()
    wait_until(lambda: not victim.alive(), 30, lambda: f"it gives up\n{victim.tail()}")
    assert f"drystone cluster join --token TOKEN --host-directory {host}" in victim.tail()
    token = cluster.token("--roles", "storage-node")
    cluster.command("s1", "cluster", "join", "--host-directory", host, "--token", token)
    victim.start()
    cluster.wait_healthy()
    assert cluster.node_id("s1") == node


def knock(cluster, name, context, data):
    """Connects to an internal listener, sends bytes, and returns what comes back until its end."""
    host, _, port = cluster.address(name).rpartition(":")
    received = bytearray()
    try:
        with socket.create_connection((host, int(port)), timeout=30) as plain:
            connection = context.wrap_socket(plain) if context else plain
            connection.sendall(data)
            connection.settimeout(30)
            while piece := connection.recv(65536):
                received += piece
    except (ssl.SSLError, ConnectionError, BrokenPipeError):
        pass
    return bytes(received)


def test_listeners_answer_nobody_without_a_good_certificate(opened, tmp_path):
    cluster, authority = opened
    host = cluster.host_directory("s1")
    like, key = read_certificate(host), read_key(host)
    bad = [
        authority.issue(like, key, begins=-3 * DAY, ends=-DAY),
        authority.issue(like, key, begins=DAY, ends=3 * DAY),
        Authority.invent(authority).issue(like, key),
    ]
    noise = [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\0" * 5000, os.urandom(70_000)]
    contexts = [client_context(host, certificate, tmp_path) for certificate in bad]
    outsider = client_context(host)

    def disturb(name):
        for data in noise:
            for context in contexts:
                answer = knock(cluster, name, context, data)
                assert answer == b"", f"{name} answered {answer[:50]!r}"
            # Whoever has no certificate may ask to be let in; noise asks for nothing.
            knock(cluster, name, outsider, data)
            knock(cluster, name, None, data)

    # Listeners wait some seconds for a handshake: they do that side by side.
    names = ("m1", "s1", "g1")
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(disturb, names))
    for process in cluster.processes.values():
        assert process.alive() and "panicked" not in process.log.read_text(errors="replace")


def rss_bytes(process):
    """Resident memory of a process."""
    with open(f"/proc/{process.process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024


def test_noise_on_the_internal_listener_takes_no_memory(opened, long):
    cluster, _ = opened
    metadata, context = cluster.processes["m1"], client_context(cluster.host_directory("s1"))

    def storm(times):
        for number in range(times):
            # Frames that promise more than they bring, among others.
            head = [b"\xff" * 64, os.urandom(64), b"\0\0\0\1" * 16][number % 3]
            knock(cluster, "m1", context, head + os.urandom(number % 3 * 10_000))

    storm(50)
    before = rss_bytes(metadata)
    storm(3000 if long else 200)
    # It has other work, too, whose memory comes and goes.
    looks = []
    for _ in range(LOOKS):
        looks.append(rss_bytes(metadata))
        time.sleep(0.5)
    grown = min(looks) - before
    assert grown < 16 << 20, f"{grown} bytes more"
    assert metadata.alive() and metadata.ready()[0] == 200


def refused_join(cluster, token, role="storage-node", name="x1"):
    """A join that must be refused; what it said. Nothing that looks like a host is left."""
    cluster.add_host(name)
    with pytest.raises(CommandFailed) as caught:
        cluster.join(role, name, token)
    assert not (cluster.host_directory(name) / "host.toml").exists()
    shutil.rmtree(cluster.host_directory(name), ignore_errors=True)
    return str(caught.value)


def list_tokens(cluster):
    """What an operator is told of the join tokens."""
    return cluster.command("m1", "cluster", "token", "list", "--endpoint", cluster.admin("m1"))


def listed_tokens(cluster):
    """The numbers of the join tokens that are good yet."""
    return set(re.findall(r"\b[0-9a-f]{16,}\b", list_tokens(cluster)))


def test_a_token_is_good_once_in_time_and_for_its_roles(opened):
    cluster, _ = opened
    once = cluster.token("--roles", "storage-node", "--uses", "1")
    assert "roles" in refused_join(cluster, once, role="gateway")
    cluster.add_host("x2")
    cluster.join("storage-node", "x2", once)
    assert "used up" in refused_join(cluster, once)
    before = listed_tokens(cluster)
    short = cluster.token("--roles", "storage-node", "--expires", "6s")
    # It is told for as long as it lives, by the cluster's clock.
    assert listed_tokens(cluster) > before
    wait_until(lambda: listed_tokens(cluster) <= before, 20, "the token has expired")
    assert "expired" in refused_join(cluster, short)
    revoked = cluster.token("--roles", "storage-node")
    listed = list_tokens(cluster)
    assert not any(secret in listed for secret in secrets_of(cluster).values())
    for token in listed_tokens(cluster):
        cluster.command("m1", "cluster", "token", "revoke", token, "--endpoint", cluster.admin("m1"))
    assert "unknown" in refused_join(cluster, revoked)


def test_a_token_of_another_cluster_is_shown_to_nobody(opened, new_cluster):
    cluster, _ = opened
    other = new_cluster("other", start=False)
    other.found("m1")
    token = other.token("--roles", "storage-node")
    # The right address, but not the cluster that the token's pin promises.
    document = decode_token(token)
    document["addresses"] = [cluster.address("m1")]
    said = refused_join(cluster, encode_token(document))
    assert re.search("pin|authority|certificate|another", said), said


def test_secrets_are_in_nothing_that_is_told_and_on_no_disk_in_clear(opened, drill):
    cluster, _ = opened
    with drill(cluster):
        pass
    secrets = {what: secret.encode() for what, secret in secrets_of(cluster).items()}
    for process in cluster.processes.values():
        for path in ("/metrics", "/status", "/health/ready", "/health/live"):
            body = http_get(process.admin + path)[1]
            assert not [what for what, secret in secrets.items() if secret in body], (process, path)
    for process in cluster.metadata + cluster.storage_nodes:
        for directory in cluster.data(process.role, process.name):
            for file in directory.rglob("*"):
                if file.is_file() and file.name != "secrets.toml":
                    shown = [what for what, secret in secrets.items() if secret in file.read_bytes()]
                    assert not shown, f"{file} holds {shown}"


def test_a_gateway_takes_a_new_certificate_while_it_runs(opened, tmp_path):
    cluster, _ = opened
    gateway, plain = cluster.gateways[0], list(cluster.gateways[0].command)
    files = tmp_path / "s3.crt", tmp_path / "s3.key"
    where = cluster.network.address(gateway.name), S3_PORT
    first = write_self_signed(*files, where[0])
    assert gateway.stop() == 0
    gateway.command = [*plain, "--tls-certificate", str(files[0]), "--tls-key", str(files[1])]
    try:
        gateway.start()
        assert ssl.get_server_certificate(where) == first
        second = write_self_signed(*files, where[0])
        wait_until(lambda: ssl.get_server_certificate(where) == second, 60, "the new one is served")
        # A pair that doesn't fit leaves the old one in use.
        write_self_signed(files[0], tmp_path / "other.key", where[0])
        wait_until(lambda: "certificate" in gateway.tail(3), 60, "it says so")
        assert ssl.get_server_certificate(where) == second
        assert gateway.alive()
    finally:
        gateway.stop()
        gateway.command = plain
        gateway.start()
    cluster.wait_healthy()
