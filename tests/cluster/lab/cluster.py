"""A whole cluster of real processes: made, joined, started, looked into, restored, removed.

Each role is a process on a host of its own, made with the commands that an operator uses. Clients
reach the gateways by a balancer that asks for their health. The data stays below one directory, and
is removed with the cluster; the logs stay.
"""

import os
import re
import shutil
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from harness.sdk import connect
from .process import ANSWER_SECONDS_MAX, Process, http_get, wait_until
from .relay import Relay
from .secrets import credentials_in, leaks_in, secrets_of

INTERNAL_PORT, BEHIND_PROXY_PORT, S3_PORT, ADMIN_PORT = 7100, 7101, 7200, 7300
SERVER_DIRECTORIES = 6
VOTERS_MAX = 5
# A learner has all the data; an even number of voters would tolerate no more losses.
REPLICA_IS_WELL = ("leader", "follower", "learner")
# What was put back from a backup is well, whether or not an operator has released the rest; releases are mixed,
# nodes few, and this machine's file system full because a test, or its machine, is so.
NO_TROUBLE = {"META_HELD", "MIXED_RELEASES", "TOLERANCE_LOW", "DURABILITY_LOW", "DISK_NEARFULL", "DISK_SLOW"}
RESTORE_SECONDS_MAX = 90
COMMAND_SECONDS_MAX = 120


class CommandFailed(Exception):
    """A command of the operator ended with an error; the text is what it said."""


class Cluster:
    """Metadata nodes m1…, storage nodes s1…, gateways g1…, and what surrounds them."""

    def __init__(
        self, binary, home, network, metadata=3, storage=6, gateways=2, coding="4+2", slow=False, racks=None,
        disks=None, flags=None,
    ):
        self.binary, self.home, self.network, self.coding = binary, home, network, coding
        # The rack of a host, of its own where none is given; its disks, one where no number is given;
        # more words on the command line of a role.
        self.racks, self.disks, self.flags = racks or {}, disks or {}, flags or {}
        # Whether a proxy stands before every internal listener.
        self.slow = slow
        self.names = {
            "metadata": [f"m{n + 1}" for n in range(metadata)],
            "storage-node": [f"s{n + 1}" for n in range(storage)],
            "gateway": [f"g{n + 1}" for n in range(gateways)],
        }
        # What it may say though all is well, beside what any cluster may.
        self.tolerated = set()
        # Hosts with another release than the others.
        self.programs = {}
        self.processes = {}
        self.proxies = {}
        self.balancer = None
        # Access key and secret key of the root identity.
        self.credentials = None
        self.tokens = []
        self.leaks = []
        (home / "logs").mkdir(parents=True)

    # Making it.

    def start(self):
        """Founds the cluster, lets every host in, and waits until all is well."""
        self.found(self.names["metadata"][0])
        self.let_in(self.joiners())
        self.balance()
        self.wait_healthy()
        return self

    def found(self, name):
        """Makes the first host and starts it."""
        self.init(name)
        self.process("metadata", name).start()

    def init(self, name):
        """Makes the host directory of the first host."""
        self.add_host(name)
        said = self.command(
            name, "cluster", "init", "--host-directory", self.host_directory(name),
            "--address", self.address(name), "--name", name, "--rack", self.rack(name),
            "--coding", self.coding,
        )
        self.credentials = credentials_in(said)

    def joiners(self):
        """The hosts that follow the first, each with its role."""
        pairs = [(role, name) for role, names in self.names.items() for name in names]
        return [pair for pair in pairs if pair[1] != self.names["metadata"][0]]

    def let_in(self, joiners):
        """Brings hosts in, each with a role, and starts their processes."""
        roles = ",".join(sorted({role for role, _ in joiners}))
        token = self.token("--roles", roles, "--uses", len(joiners))
        for _, name in joiners:
            self.add_host(name)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda joiner: self.join(*joiner, token), joiners))
        started = [self.process(role, name).launch() for role, name in joiners]
        for process in started:
            process.wait_ready()

    def add_host(self, name):
        """A host on the network, with a proxy where the cluster is slow."""
        if name not in self.network.hosts:
            self.network.add(name)
        self.host_home(name).mkdir(exist_ok=True)
        if self.slow and name not in self.proxies:
            host = self.network.address(name)
            self.proxies[name] = Relay(
                f"{host}:{INTERNAL_PORT}", [f"{host}:{BEHIND_PROXY_PORT}"],
                inside=self.network.inside(name), log=self.log(f"{name}-proxy"),
            )

    def token(self, *arguments, name="m1"):
        """Makes a join token."""
        done = self.command(name, "cluster", "token", "create", "--endpoint", self.admin(name), *arguments)
        token = re.search(r"drystone-join-\S+", done)[0]
        self.tokens.append(token)
        return token

    def join(self, role, name, token):
        """Makes the host directory of a new host."""
        return self.command(
            name, "cluster", "join", "--host-directory", self.host_directory(name),
            "--token", token, "--address", self.address(name), "--roles", role, "--name", name,
            "--rack", self.rack(name),
        )

    def rack(self, name):
        """The rack of a host."""
        return self.racks.get(name, f"rack-{name}")

    def process(self, role, name):
        """The process of a host, made at its first use."""
        if name not in self.processes:
            words = [self.program(name), role, "--admin-listen", urlsplit(self.admin(name)).netloc]
            if self.host_directory(name).exists():
                port = BEHIND_PROXY_PORT if self.slow else INTERNAL_PORT
                words += ["--host-directory", self.host_directory(name)]
                words += ["--cluster-listen", f"{self.network.address(name)}:{port}"]
            if role in ("gateway", "server"):
                words += ["--listen", f"{self.network.address(name)}:{S3_PORT}"]
            words += [*self.data(role, name), *self.flags.get(role, ())]
            process = Process(
                name, [*self.network.inside(name), *words], self.host_home(name), self.log(name),
                self.admin(name), self.environment(),
            )
            process.role, process.endpoint = role, f"http://{self.network.address(name)}:{S3_PORT}"
            self.processes[name] = process
        return self.processes[name]

    def renumber(self, names):
        """Gives hosts, all of whose processes are stopped, new addresses, and tells nobody."""
        for name in names:
            self.network.renumber(name)
            role = self.processes.pop(name).role
            self.process(role, name)

    def program(self, name):
        """The program that is installed on a host."""
        return self.programs.get(name, self.binary)

    def install(self, name, binary):
        """Installs another release on a host; a process that runs there goes on with the one it has."""
        if name in self.processes:
            command = self.processes[name].command
            command[command.index(str(self.program(name)))] = str(binary)
        self.programs[name] = binary

    def start_alone(self, name):
        """Starts a `drystone server` that knows of no cluster."""
        self.add_host(name)
        process = self.process("server", name).start()
        wait_until(lambda: "S3 listening on" in process.tail(), 10, "it greets")
        self.credentials = credentials_in(process.log.read_text())
        self.balance()
        return process

    def grow(self, name):
        """Makes a server that stood alone, and is stopped now, the first host of a cluster."""
        directories = self.data("server", name)
        said = self.command(
            name, "cluster", "init", "--host-directory", self.host_directory(name),
            "--address", self.address(name), "--name", name, "--from", *directories,
        )
        del self.processes[name]
        self.process("server", name).start()
        return said

    def balance(self):
        """Starts the balancer in front of the gateways."""
        addresses = [urlsplit(gateway.endpoint).netloc for gateway in self.gateways]
        checks = [f"{gateway.admin}/health/ready" for gateway in self.gateways]
        self.balancer = Relay("127.0.0.1:0", addresses, checks, log=self.log("balancer"))

    # Where things are.

    def host_home(self, name):
        """Everything of one host."""
        return self.home / name

    def host_directory(self, name):
        """What a process knows about itself."""
        return self.host_home(name) / "host"

    def data(self, role, name):
        """The data directories of a host: many for a server, and one where one is needed."""
        count = {"server": SERVER_DIRECTORIES, "gateway": 0}.get(role, self.disks.get(name, 1))
        return [self.host_home(name) / f"data{n}" for n in range(count)]

    def log(self, name):
        """Where a process says what it does."""
        return self.home / "logs" / f"{name}.log"

    def address(self, name):
        """The internal listener, as the others reach it."""
        return f"{self.network.address(name)}:{INTERNAL_PORT}"

    def admin(self, name):
        """The URL of the admin listener."""
        return f"http://{self.network.address(name)}:{ADMIN_PORT}"

    @property
    def endpoint(self):
        """The balancer."""
        return f"http://{self.balancer.address}"

    @staticmethod
    def environment():
        """The surroundings of every process: nothing of the user's."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("DRYSTONE_")}
        return own | {"RUST_BACKTRACE": "1"}

    def of_role(self, role):
        """The processes with a role."""
        return [process for process in self.processes.values() if process.role == role]

    @property
    def gateways(self):
        """The processes that speak S3."""
        return self.of_role("gateway") + self.of_role("server")

    @property
    def storage_nodes(self):
        """The processes that only keep shards."""
        return self.of_role("storage-node")

    @property
    def metadata(self):
        """The processes that only keep metadata."""
        return self.of_role("metadata")

    def s3(self, endpoint=None, **options):
        """A client of one gateway, or by way of the balancer."""
        return connect(endpoint or self.endpoint, self.credentials, **options)

    # What an operator asks.

    def command(self, name, *words, check=True):
        """Runs a command of the program on a host and returns what it printed."""
        done = self.run(name, *words)
        if check and done.returncode != 0:
            raise CommandFailed(f"{' '.join(map(str, words[:3]))}: {done.stdout}{done.stderr}")
        return done.stdout

    def run(self, name, *words, seconds=COMMAND_SECONDS_MAX):
        """Runs a command of the program on a host to its end, whatever that is."""
        command = [*self.network.inside(name), str(self.program(name)), *map(str, words)]
        return subprocess.run(
            command, env=self.environment(), cwd=self.host_home(name), capture_output=True, text=True,
            timeout=seconds,
        )

    def ask(self, *words, name=None):
        """Runs `drystone admin …` against a process that keeps metadata, or another one."""
        keepers = self.metadata + self.of_role("server")
        name = name or next(p.name for p in keepers if p.alive() and not p.paused)
        return self.command(name, "admin", "--endpoint", self.admin(name), *words)

    def node_id(self, name):
        """The number of a host's node."""
        return tomllib.loads((self.host_directory(name) / "host.toml").read_text())["node"]

    def name_of_node(self, node):
        """The host with this number."""
        return next(name for name in self.processes if self.node_id(name) == node)

    def leader(self):
        """The process that leads the metadata; waits until there is one."""
        return wait_until(self._leader, 30, "there is a metadata leader")

    def _leader(self):
        for process in self.gateways + self.metadata:
            status = process.status() if process.alive() and not process.paused else None
            summary = status and status.get("metadata")
            if summary and summary.get("leader") is not None:
                for replica in summary["replicas"]:
                    if replica["replica"] == summary["leader"] and replica.get("node") is not None:
                        return self.processes[self.name_of_node(replica["node"])]
        return None

    def status(self):
        """What a gateway says of the cluster; waits for one that answers."""
        def told():
            able = (gateway for gateway in self.gateways if gateway.alive() and not gateway.paused)
            return next((found for gateway in able if (found := gateway.status())), None)

        return wait_until(told, ANSWER_SECONDS_MAX, "a gateway tells its status")

    def followers(self):
        """The metadata processes that don't lead."""
        leader = self.leader()
        return [process for process in self.metadata if process is not leader]

    def troubles(self):
        """What isn't as it should be; empty when all is well."""
        told = [f"{p} isn't running" for p in self.processes.values() if not p.alive()]
        health = {process: process.ready() for process in self.processes.values()}
        told += [f"{p} is not ready: {body[:300]}" for p, (code, body) in health.items() if code != 200]
        if self.balancer and http_get(self.endpoint)[0] == 0:
            told.append("the balancer reaches no gateway")
        for gateway in self.gateways:
            status = gateway.status()
            if status is None:
                return [*told, f"{gateway} has no status"]
            reasons = [reason for reason in status["reasons"] if reason["code"] not in NO_TROUBLE | self.tolerated]
            told += [f"{gateway}: {reason}" for reason in reasons]
            keepers = self.of_role("storage-node") + self.of_role("server")
            wanted = sum(len(self.data(keeper.role, keeper.name)) for keeper in keepers)
            disks = [disk for disk in status["disks"] if disk["state"] == "up"]
            if len(disks) < wanted:
                told.append(f"{gateway}: {len(disks)} of {wanted} disks are up")
            states = [replica["state"] for replica in status["metadata"]["replicas"]]
            well = [state for state in states if state in REPLICA_IS_WELL]
            voters = sum(bool(replica["votes"]) for replica in status["metadata"]["replicas"])
            # Of an even number one waits.
            wanted = (len(states) - 1) // 2 * 2 + 1
            if len(well) < max(len(self.metadata), len(states)) or voters < min(wanted, VOTERS_MAX):
                told.append(f"{gateway}: the metadata replicas are {states}")
        return told

    def wait_healthy(self, seconds=RESTORE_SECONDS_MAX):
        """Waits until every process is ready and says that all is well."""
        wait_until(lambda: not self.troubles(), seconds, lambda: f"all is well: {self.troubles()}")

    def lose(self, name):
        """A host is gone for good, with all that it had."""
        process = self.processes.pop(name)
        process.kill()
        # Its disks are listed ever after.
        self.tolerated |= {"DISK_OUT"}
        for directory in self.data(process.role, name):
            shutil.rmtree(directory)

    # After a test.

    def restore(self):
        """Ends every fault, starts what doesn't run, and waits until all is well."""
        self.network.heal()
        for proxy in self.proxies.values():
            proxy.shape()
        for process in self.processes.values():
            if process.paused:
                process.resume()
            if not process.alive():
                process.launch()
        self.wait_healthy()

    def remove(self):
        """Ends every process and removes all data; the logs stay. What secrets they show is kept
        in `leaks`."""
        secrets = secrets_of(self)
        for process in self.processes.values():
            process.resume()
            process.kill()
        for relay in [*self.proxies.values(), *filter(None, [self.balancer])]:
            relay.stop()
        self.network.remove()
        self.leaks += [leak for log in self.logs() for leak in leaks_in(log, secrets)]
        for host in self.network.hosts:
            shutil.rmtree(self.host_home(host), ignore_errors=True)

    def logs(self):
        """The log of every process."""
        return sorted((self.home / "logs").glob("*.log"))
