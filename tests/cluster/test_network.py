"""The laboratory itself: hosts reach each other, faults do what they say, proxies delay and balance."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from lab.process import wait_until
from lab.network import PREFIX, ip, remove_leftovers
from lab.relay import Relay

ECHO = """
import socket, sys, threading
server = socket.create_server((sys.argv[1], 7000))
print("listening", flush=True)
def serve(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
PING = """
import socket, sys
with socket.create_connection((sys.argv[1], 7000), timeout=1) as connection:
    connection.sendall(b"x")
    sys.exit(0 if connection.recv(1) == b"x" else 1)
"""


@pytest.fixture
def network(new_network):
    """A network of the test's own."""
    made = new_network()
    yield made
    made.remove()


@contextlib.contextmanager
def echo(network, host):
    """A server on a host that says what it hears."""
    command = [*network.inside(host), sys.executable, "-c", ECHO, network.address(host)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert server.stdout.readline() == b"listening\n"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def reaches(network, sender, receiver):
    """Whether one host gets an answer from another."""
    command = [*network.inside(sender), sys.executable, "-c", PING, network.address(receiver)]
    return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def test_hosts_reach_each_other_and_are_reached(network):
    for host in ("a", "b"):
        network.add(host)
    with echo(network, "b"):
        assert reaches(network, "a", "b")
        with socket.create_connection((network.address("b"), 7000), timeout=5) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"


@pytest.mark.usefixtures("faulty_network")
def test_faults_hurt_whom_they_should_and_end(network):
    for host in ("a", "b", "c"):
        network.add(host)
    with echo(network, "b"), echo(network, "c"):
        for fault in (
            lambda: network.unplug("b"),
            lambda: network.part(["a"], ["b"]),
            lambda: network.drop("b", "a"),
            lambda: network.drop("a", "b"),
            lambda: network.lose("b", 99),
        ):
            assert reaches(network, "a", "b")
            fault()
            assert not reaches(network, "a", "b")
            assert reaches(network, "a", "c")
            network.heal()
        assert reaches(network, "a", "b")


@pytest.mark.usefixtures("faulty_network")
def test_what_a_dead_run_left_behind_is_removed():
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f"{PREFIX}-{ended.pid}-0-host"
    ip("netns", "add", name)
    sleeper = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"])
    wait_until(lambda: str(sleeper.pid) in ip("netns", "pids", name).stdout.split(), 10, "it runs there")
    remove_leftovers()
    assert name not in ip("netns", "list").stdout
    assert sleeper.wait(10) == -9


@contextlib.contextmanager
def answering(word):
    """A server that sends one word on each connection, and a switch for its health."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection = server.accept()[0]
                connection.sendall(word)
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def heard(address):
    """What a server sends."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        return connection.recv(100)


def test_a_proxy_delays_and_narrows(network):
    network.add("a")
    with echo(network, "a"):
        relay = Relay("127.0.0.1:0", [f"{network.address('a')}:7000"])
        try:
            host, _, port = relay.address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                def there_and_back(data):
                    began = time.monotonic()
                    connection.sendall(data)
                    left = len(data)
                    while left:
                        left -= len(connection.recv(left))
                    return time.monotonic() - began

                assert there_and_back(b"x") < 0.15
                relay.shape(delay_ms=200)
                assert 0.4 <= there_and_back(b"x") < 0.6
                relay.shape(bytes_per_s=200_000)
                assert there_and_back(b"x" * 100_000) >= 0.5
                relay.shape()
                assert there_and_back(b"x") < 0.15
        finally:
            relay.stop()


def test_a_balancer_goes_to_those_that_are_there():
    with answering(b"one") as one:
        with answering(b"two") as two:
            relay = Relay("127.0.0.1:0", [one, two])
            assert {heard(relay.address) for _ in range(4)} == {b"one", b"two"}
        assert {heard(relay.address) for _ in range(4)} == {b"one"}
        relay.stop()
