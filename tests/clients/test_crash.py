"""kill -9 at random moments under load; restarts are quick, and nothing acknowledged is ever lost."""

import json
import random
import subprocess
import time

import pytest

from harness.sdk import connect, list_keys
from harness.server import ACCESS_KEY, SECRET_KEY
from harness.traffic import Ledger, Traffic, verify

pytestmark = pytest.mark.slow
RESTART_SECONDS_MAX = 5


def impatient(server):
    """A client that does not retry: what was acknowledged must be known exactly."""
    return connect(
        server.endpoint, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20
    )


def test_rounds_of_kill(new_server, seed, request):
    rounds = request.config.getoption("--rounds")
    server = new_server()
    connect(server.endpoint).create_bucket(Bucket="crash")
    ledger = Ledger()
    rng = random.Random(seed)
    slowest = 0
    for turn in range(rounds):
        traffic = Traffic(impatient(server), "crash", ledger, f"{seed}/{turn}", writers=6, once=True)
        time.sleep(rng.uniform(0.05, 0.9))
        errors_before_the_kill = list(traffic.errors)
        server.kill()
        traffic.stop()
        assert not errors_before_the_kill, f"round {turn}: {errors_before_the_kill[:5]}"
        server.start()
        slowest = max(slowest, server.start_seconds)
        there = verify(connect(server.endpoint), "crash", ledger)
        print(f"round {turn}: {traffic.done} acknowledged, {there} objects, ready in {server.start_seconds:.2f} s")
    assert slowest < RESTART_SECONDS_MAX, f"the slowest restart took {slowest:.1f} s"
    assert server.stop() == 0


def test_a_kill_during_the_restart(new_server, seed):
    server = new_server()
    connect(server.endpoint).create_bucket(Bucket="crash")
    ledger = Ledger()
    rng = random.Random(seed)
    for turn in range(5):
        traffic = Traffic(impatient(server), "crash", ledger, f"{seed}/{turn}", once=True)
        traffic.wait_for(50)
        server.kill()
        traffic.stop()
        for _ in range(3):
            server.start_and_kill(rng.uniform(0, 0.5))
        server.start()
        verify(connect(server.endpoint), "crash", ledger)


def test_stop_finishes_what_is_under_way(new_server, seed):
    server = new_server()
    connect(server.endpoint).create_bucket(Bucket="crash")
    ledger = Ledger()
    for turn in range(3):
        traffic = Traffic(impatient(server), "crash", ledger, f"{seed}/{turn}", once=True)
        traffic.wait_for(50)
        assert server.stop() == 0
        traffic.stop()
        server.start()
        verify(connect(server.endpoint), "crash", ledger)


def test_restart_with_100_000_objects(new_server, load_program):
    server = new_server()
    command = [
        load_program, "--endpoint", server.endpoint, "--access-key", ACCESS_KEY,
        "--secret-key", SECRET_KEY, "--op", "put", "--size", "1KiB", "--concurrency", "32",
        "--requests", "100000", "--duration", "15m", "--bucket", "many", "--prefix", "o/", "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.tail()}"
    figures = json.loads(done.stdout)
    assert (figures["requests"], figures["errors"]) == (100_000, 0), figures
    print(f"100,000 objects put: {figures['ops_per_s']:.0f}/s")
    for end in (server.stop, server.kill):
        end()
        server.start()
        print(f"after {end.__name__}: ready in {server.start_seconds:.2f} s")
        assert server.start_seconds < RESTART_SECONDS_MAX
    s3 = connect(server.endpoint)
    assert list_keys(s3, "many") == [f"o/{n:010}" for n in range(100_000)]
    first = s3.get_object(Bucket="many", Key="o/0000000000")["Body"].read()
    for number in random.Random(1).sample(range(100_000), 200):
        assert s3.get_object(Bucket="many", Key=f"o/{number:010}")["Body"].read() == first
