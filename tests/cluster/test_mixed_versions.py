"""A cluster of the release before and this one works while it is upgraded, host by host."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def git(*words):
    """What git says of this repository; empty where it says nothing."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else ""


def previous():
    """The last release before this one that knows clusters; the last landed commit where nothing was
    released yet; None where there is neither."""
    tags = git("tag", "--sort=-version:refname", "--no-contains", "HEAD").split()
    commits = [*tags, "HEAD"] if not tags else tags
    known = (c for c in commits if git("cat-file", "-t", f"{c}:src/cluster/init.rs") == "blob")
    return next(known, None)


@pytest.fixture(scope="session")
def previous_binary(long, tmp_path_factory):
    """The program of the release before; DRYSTONE_PREVIOUS_BINARY names one that is built already."""
    if given := os.environ.get("DRYSTONE_PREVIOUS_BINARY"):
        return Path(given).resolve()
    commit = previous()
    if commit is None:
        pytest.skip("there is no earlier release that knows clusters")
    if not long:
        pytest.skip(f"building {commit} takes minutes: DRYSTONE_CLUSTER_LONG=1")
    source = tmp_path_factory.mktemp("previous") / "source"
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "previous"
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(source)], check=True)
    subprocess.run(["git", "-C", str(source), "checkout", "--quiet", git("rev-parse", commit)], check=True)
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bin", "drystone"],
        cwd=source, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True,
    )
    return target / "release/drystone"


def test_an_upgrade_host_by_host(new_cluster, drill, binary, previous_binary):
    cluster = new_cluster(start=False, metadata=3)
    cluster.binary = previous_binary
    cluster.start()
    with drill(cluster) as load:
        for process in list(cluster.processes.values()):
            assert process.stop() == 0, process.tail()
            process.command[process.command.index(str(previous_binary))] = str(binary)
            process.start()
            cluster.wait_healthy()
            load.wait_for(20)
    # Neither is refused what it knows: the last one back again, as far as nothing new was switched on.
    cluster.ask("metadata", "check")
