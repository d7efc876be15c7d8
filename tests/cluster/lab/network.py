"""Hosts to run processes on: network namespaces joined by a bridge, or addresses of the loopback.

Both give a host an address of its own and say how a process is started on it. Only namespaces can be
hurt: links taken down, packets between two hosts dropped, a share of all packets lost. What was made
is removed again, by this run or, where it died, by the next one.
"""

import itertools
import json
import os
import re
import subprocess
from pathlib import Path

PREFIX = "drystone-test"
NUMBERS = itertools.count()
# How far a host's new address is from the one that it had.
RENUMBERED = 100


class NoFaults(Exception):
    """This kind of network can't be hurt."""


def ip(*words, check=True):
    """Runs `ip`."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, timeout=30)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done


def why_no_namespaces():
    """Why namespaces can't be used here; None where they can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    name = f"{PREFIX}-{os.getpid()}-probe"
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"network namespaces are not permitted here ({error})"
    try:
        ip("-n", name, "link", "add", "name", "veth0", "type", "veth", "peer", "name", "veth1")
        ip("-n", name, "link", "add", "name", "bridge0", "type", "bridge")
        subprocess.run(
            ["ip", "netns", "exec", name, "nft", "add", "table", "inet", "probe"],
            check=True, capture_output=True, timeout=30,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"veth pairs, bridges or nftables are not permitted here ({error})"
    finally:
        ip("netns", "del", name, check=False)
    return None


def remove_leftovers():
    """Removes the namespaces of runs that are no more, and the processes in them."""
    for entry in json.loads(ip("-j", "netns", "list").stdout or "[]"):
        found = re.fullmatch(rf"{PREFIX}-(\d+)-.*", entry["name"])
        if found and not Path(f"/proc/{found[1]}").exists():
            remove_namespace(entry["name"])


def remove_namespace(name):
    """Ends what runs in a namespace, and removes it with its interfaces."""
    for pid in ip("netns", "pids", name, check=False).stdout.split():
        try:
            os.kill(int(pid), 9)
        except ProcessLookupError:
            pass
    ip("netns", "del", name, check=False)


class Namespaces:
    """One namespace for each host, all on one bridge, which the tests can reach as well."""

    can_be_hurt = True

    def __init__(self):
        self.prefix = f"{PREFIX}-{os.getpid()}-{next(NUMBERS)}"
        self.hub = f"{self.prefix}-hub"
        self.hosts = {}
        self.outside = f"ds{os.getpid()}n{self.prefix.rpartition('-')[2]}"
        ip("netns", "add", self.hub)
        # The bridge is in a namespace of its own, so that no packet filter of this machine sees
        # what the hosts say to each other.
        ip("-n", self.hub, "link", "add", "name", "bridge", "type", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        ip("link", "add", "name", self.outside, "type", "veth", "peer", "name", "outside", "netns", self.hub)
        ip("-n", self.hub, "link", "set", "outside", "master", "bridge", "up")
        self.subnet = self._free_subnet()
        ip("addr", "add", f"{self.subnet}.1/24", "dev", self.outside)
        ip("link", "set", self.outside, "up")

    @staticmethod
    def _free_subnet():
        """Three octets of a network for benchmarks (RFC 2544) that nobody here uses."""
        used = {
            address["local"].rpartition(".")[0]
            for link in json.loads(ip("-j", "addr").stdout)
            for address in link.get("addr_info", [])
        }
        first = os.getpid()
        return next(
            subnet
            for number in range(first, first + 512)
            if (subnet := f"198.{18 + number // 256 % 2}.{number % 256}") not in used
        )

    def add(self, host):
        """Makes a host and returns its address."""
        number = len(self.hosts) + 2
        name = f"{self.prefix}-{host}"
        ip("netns", "add", name)
        self.hosts[host] = name, f"h{number}", f"{self.subnet}.{number}"
        cable = ["type", "veth", "peer", "name", "eth0", "netns", name]
        ip("-n", self.hub, "link", "add", "name", f"h{number}", *cable)
        ip("-n", self.hub, "link", "set", f"h{number}", "master", "bridge", "up")
        ip("-n", name, "addr", "add", f"{self.subnet}.{number}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        return self.address(host)

    def renumber(self, host):
        """Gives a host another address, and takes the one that it had."""
        name, port, address = self.hosts[host]
        number = int(address.rpartition(".")[2]) + RENUMBERED
        ip("-n", name, "addr", "del", f"{address}/24", "dev", "eth0")
        ip("-n", name, "addr", "add", f"{self.subnet}.{number}/24", "dev", "eth0")
        self.hosts[host] = name, port, f"{self.subnet}.{number}"

    def address(self, host):
        """The address of a host."""
        return self.hosts[host][2]

    def inside(self, host):
        """The words that start a program on a host; the process is the program itself."""
        return ["ip", "netns", "exec", self.hosts[host][0]]

    def unplug(self, host):
        """Takes the link of a host down."""
        ip("-n", self.hub, "link", "set", self.hosts[host][1], "down")

    def drop(self, sender, receiver):
        """Nothing that one host sends reaches the other; the opposite way is open."""
        self._rule(receiver, f"ip saddr {self.address(sender)} drop")

    def part(self, some, others):
        """Nothing passes between two groups of hosts, either way."""
        for one, other in itertools.product(some, others):
            self.drop(one, other)
            self.drop(other, one)

    def lose(self, host, percent):
        """Of all packets to a host, so many are lost at random."""
        self._rule(host, f'iifname "eth0" numgen random mod 100 < {percent} drop')

    def _rule(self, host, rule):
        chain = "add chain inet faults input { type filter hook input priority 0; }"
        self._nft(host, f"add table inet faults\n{chain}\nadd rule inet faults input {rule}\n")

    def _nft(self, host, script):
        command = [*self.inside(host), "nft", "-f", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise OSError(f"nft: {done.stderr}")

    def heal(self):
        """Ends every fault."""
        for host, (_, port, _) in self.hosts.items():
            ip("-n", self.hub, "link", "set", port, "up")
            self._nft(host, "add table inet faults\ndelete table inet faults\n")

    def remove(self):
        """Removes everything, and ends what still runs in it."""
        for name, _, _ in self.hosts.values():
            remove_namespace(name)
        remove_namespace(self.hub)
        ip("link", "del", self.outside, check=False)


class Loopback:
    """Hosts that share this machine's network, each with an address below 127.0.0.0/8."""

    can_be_hurt = False

    def __init__(self):
        self.hosts = {}
        self.subnet = f"127.{1 + os.getpid() % 250}.{1 + next(NUMBERS) % 250}"

    def add(self, host):
        """Makes a host and returns its address."""
        self.hosts[host] = f"{self.subnet}.{len(self.hosts) + 2}"
        return self.hosts[host]

    def renumber(self, host):
        """Gives a host another address."""
        number = int(self.hosts[host].rpartition(".")[2]) + RENUMBERED
        self.hosts[host] = f"{self.subnet}.{number}"

    def address(self, host):
        """The address of a host."""
        return self.hosts[host]

    def inside(self, _host):
        """Nothing is needed to start a program on a host."""
        return []

    def unplug(self, _host):
        """Can't be done."""
        raise NoFaults

    drop = part = lose = unplug

    def heal(self):
        """Nothing is ever hurt."""

    def remove(self):
        """Nothing was made."""
