"""Fixtures: the network, a cluster that tests share when they leave it whole, clusters of their own.

`DRYSTONE_CLUSTER_LONG=1` asks for the long versions. Without the right to make network namespaces
(or with `--loopback`) the same scenarios run on loopback addresses, less those whose fault needs a
network that can be hurt.
"""

import os
import random
from pathlib import Path

import pytest

from harness.programs import Programs
from lab.cluster import Cluster
from lab.load import FIGURES
from lab.load import drill as run_drill
from lab.network import Loopback, Namespaces, remove_leftovers, why_no_namespaces

ROOT = Path(__file__).resolve().parents[2]
LONG = os.environ.get("DRYSTONE_CLUSTER_LONG") == "1"


def pytest_addoption(parser):
    """The options of this suite."""
    binary = os.environ.get("DRYSTONE_BINARY", ROOT / "target/release/drystone")
    parser.addoption("--binary", default=str(binary), help="the program")
    parser.addoption("--seed", default=None, help="repeats what was random in an earlier run")
    parser.addoption("--loopback", action="store_true", help="use no network namespaces")


def pytest_collection_modifyitems(items):
    """Skips what is for the long version, and calls slow what starts clusters."""
    for item in items:
        if item.get_closest_marker("long") and not LONG:
            item.add_marker(pytest.mark.skip(reason="DRYSTONE_CLUSTER_LONG=1 asks for it"))
        if {"shared", "new_cluster", "opened"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def long():
    """Whether the long versions are asked for."""
    return LONG


@pytest.fixture(scope="session")
def seed(request):
    """Everything random comes from it; it is printed when a test fails."""
    return request.config.getoption("--seed") or str(random.SystemRandom().randrange(1 << 32))


@pytest.fixture(scope="session")
def binary(request):
    """Path of the program."""
    path = Path(request.config.getoption("--binary"))
    if not path.exists():
        pytest.fail(f"{path} is missing: cargo build --release")
    return path.resolve()


@pytest.fixture(scope="session")
def previous_binary():
    """Path of the program of the release before, which scripts/previous-release builds."""
    if path := os.environ.get("DRYSTONE_PREVIOUS_BINARY"):
        return Path(path).resolve()
    pytest.skip(os.environ.get("DRYSTONE_PREVIOUS_MISSING", "scripts/test cluster builds the release before"))


@pytest.fixture(scope="session")
def new_network(request):
    """Makes networks: of namespaces where that is permitted."""
    reason = "--loopback" if request.config.getoption("--loopback") else why_no_namespaces()
    if reason:
        print(f"\nhosts are loopback addresses: {reason}")
        return Loopback
    remove_leftovers()
    return Namespaces


@pytest.fixture
def faulty_network(new_network):
    """Skips a test whose fault needs a network that can be hurt."""
    if not new_network.can_be_hurt:
        pytest.skip("needs network namespaces and nftables: run as root")


class Shared:
    """The cluster that tests share; a new one is made after a test that left it broken."""

    def __init__(self, make):
        self.make = make
        self.cluster = None

    def get(self):
        """A cluster in which all is well."""
        if self.cluster is None:
            self.cluster = self.make()
            self.cluster.start()
        return self.cluster

    def give_back(self, failed):
        """Looks whether it can be used again."""
        if self.cluster is None:
            return
        try:
            assert not failed
            self.cluster.restore()
        except Exception:  # Whatever is wrong with it, the next test gets another one.
            self.remove()

    def remove(self):
        """Removes it, if there is one."""
        cluster, self.cluster = self.cluster, None
        if cluster:
            cluster.remove()
            assert not cluster.leaks, cluster.leaks


@pytest.fixture(scope="session")
def shared(binary, new_network, tmp_path_factory):
    """The shared cluster: 3 metadata nodes, 6 storage nodes, 2 gateways, 4+2."""
    made = Shared(lambda: Cluster(binary, tmp_path_factory.mktemp("shared") / "cluster", new_network()))
    yield made
    made.remove()


@pytest.fixture
def cluster(shared, request):
    """The shared cluster, whole; whatever the test does to it is made good after it."""
    try:
        yield shared.get()
    finally:
        report = getattr(request.node, "report", None)
        shared.give_back(failed=report is None or report.failed)


@pytest.fixture
def new_cluster(binary, new_network, tmp_path):
    """Makes clusters of the test's own, smaller than the shared one, and removes them."""
    made = []

    def make(name="cluster", start=True, **shape):
        shape = {"metadata": 1, "storage": 3, "gateways": 1, "coding": "2+1"} | shape
        made.append(Cluster(binary, tmp_path / name, new_network(), **shape))
        return made[-1].start() if start else made[-1]

    yield make
    for one in made:
        one.remove()
    leaks = [leak for one in made for leak in one.leaks]
    assert not leaks, leaks


@pytest.fixture
def drill(seed, request):
    """A load around a fault, in a bucket named after the test."""
    words = request.node.name.removeprefix("test_").replace("_", "-").lower()
    name = "".join(char for char in words if char.isalnum() or char == "-")[:50].strip("-")

    def run(cluster, suffix="", **options):
        return run_drill(cluster, seed, name + suffix, **options)

    return run


@pytest.fixture
def programs(tmp_path):
    """The command-line clients, pointed at a cluster."""
    return lambda cluster: Programs(cluster.endpoint, tmp_path / "home", cluster.credentials)


def pytest_terminal_summary(terminalreporter):
    """Shows what the loads measured."""
    if FIGURES:
        terminalreporter.section("what clients felt")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Shows the seed and the ends of the processes' logs beside a failure."""
    report = (yield).get_result()
    if report.when == "call" or report.failed:
        item.report = report
    if not report.failed:
        return
    if "seed" in item.funcargs:
        report.sections.append(("seed", f"--seed {item.funcargs['seed']}"))
    homes = [item.funcargs["tmp_path"]] if "tmp_path" in item.funcargs else []
    shared = item.funcargs.get("shared")
    if shared and shared.cluster:
        homes.append(shared.cluster.home)
    if "opened" in item.funcargs:
        homes.append(item.funcargs["opened"][0].home)
    for home in homes:
        for log in sorted(home.glob("**/logs/*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            report.sections.append((str(log), tail))
