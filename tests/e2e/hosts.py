"""Remote hosts for tests: Debian machines with sshd and a Docker engine, each a container on this machine's engine.

    with hosts(directory, "staging", "prod") as (staging, prod):
        staging.ssh("docker", "version")

They share a network of their own (IPv4 and IPv6), are reached at their addresses on it, and go when the block ends; so
do those that a killed run left. Engines inside use overlay2, and are frozen and limited with their host. For the next
run stay an image, `prefect-environment-tests/host`, and the volume of each engine, with the layers that it has built.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from providers.ssh import forwarded, ssh_host
from scripts.lib.process import alive
from tests.e2e.environment import CommandError, Done, Environment, docker, eventually, run
from toolchain.artefacts import artefact

RECIPE: Final = Path(__file__).parent / "host"
SCANNER: Final = Path(__file__).with_name("scan.py")
IMAGE: Final = "prefect-environment-tests/host"
OWNER: Final = "prefect-environment.tests.owner"
"""Label with the pid of the test session that made a container or network."""
REGISTRY_PORT: Final = 5000
"""Engines on hosts take images without TLS from a registry at this port of their `operator_address`."""
USER: Final = "ops"
ADMIN: Final = "admin"
BOOT_SECONDS: Final = 60
LAYERS_KEPT: Final = "4GB"
"""How much an engine keeps from one run to the next, of the layers that it has built."""
FORGET: Final = f"""\
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes
docker volume ls --quiet | xargs --no-run-if-empty docker volume rm
docker network prune --force
docker image prune --all --force
docker builder prune --force --keep-storage {LAYERS_KEPT}
"""
"""What makes an engine as good as new, but for those layers."""
# What an engine needs; --privileged asks for more than some machines have themselves.
UNCONFINED: Final = [f"--security-opt={what}=unconfined" for what in ("seccomp", "apparmor", "systempaths")]
RIGHTS: Final = ["--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--cgroupns=private", *UNCONFINED]
LOOP_CONTROL: Final = Path("/dev/loop-control")
LOOP_DEVICES: Final = [f"--device={LOOP_CONTROL}", "--device-cgroup-rule=b 7:* rmw"]
"""What a disk of its own needs; 7 is their major number."""
needs_disk: Final = pytest.mark.skipif(
    not LOOP_CONTROL.exists(), reason="a disk that can be filled is a loop device, and there is none here"
)
DATA: Final = "/var/lib/docker"


@dataclass(frozen=True)
class Host:
    """A remote host; `ops` may use its engine and nothing else, `admin` may sudo."""

    name: str
    """Its host name."""
    container: str
    """The container that it is."""
    private_address: str
    """IPv4 address on the network that it shares with its neighbours, and from where it was made."""
    private_address6: str
    directory: Path
    """Keys and known hosts of the test."""

    @property
    def address(self) -> str:
        """Docker endpoint for `ops`."""
        return self.endpoint(USER)

    def endpoint(self, user: str) -> str:
        """Docker endpoint for another user."""
        return f"ssh://{user}@{self.private_address}"

    @property
    def ssh_options(self) -> dict[str, str]:
        """OpenSSH's options to reach it with."""
        return {
            "IdentityFile": str(self.directory / "id_ed25519"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
        }

    @property
    def known_hosts(self) -> Path:
        """File with its host key as of `trust`, and with nothing else."""
        return self.directory / f"known_hosts_{self.name}"

    @property
    def ssh_words(self) -> list[str]:
        """The ssh command without user and host."""
        options = {**self.ssh_options, "BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": "8"}
        return ["ssh", *(f"-o{key}={value}" for key, value in options.items())]

    def ssh(self, *words: str, user: str = USER, ok: bool = True, timeout: float = 60) -> Done:
        """Run a command line over ssh; with ok=True a failure raises with its output."""
        done = run(
            [*self.ssh_words, f"{user}@{self.private_address}", *words], self.directory, os.environ, timeout=timeout
        )
        if ok and done.code:
            raise CommandError(f"ssh {self.name} {' '.join(words)} ended with {done.code}: {done.text}")
        return done

    def run(self, *argv: str, ok: bool = True) -> str:
        """Output of a command as root, past ssh and whatever is wrong with it."""
        return docker("exec", self.container, *argv, ok=ok)

    def docker(self, *words: str, ok: bool = True) -> str:
        """Output of the docker client on the host, past ssh."""
        return self.run("docker", *words, ok=ok)

    def pause(self) -> None:
        """Freeze it, with every container on it."""
        docker("pause", self.container)

    def unpause(self) -> None:
        """Let it go on, if it is frozen."""
        docker("unpause", self.container, ok=False)

    def cut(self) -> None:
        """Let every packet to this machine get lost: no connection is closed, none gets an answer."""
        self.run("ip", "route", "add", "blackhole", self.operator_address)

    def restore(self) -> None:
        """Undo `cut`, if it was done."""
        self.run("ip", "route", "del", "blackhole", self.operator_address, ok=False)

    def put(self, source: Path, target: str) -> None:
        """Lay a file or a directory down on it, as root."""
        docker("cp", str(source), f"{self.container}:{target}")

    def reboot(self, *, power_cut: bool = False) -> None:
        """Shut it down in order, or not, and boot it; its containers come back as their restart policies say."""
        if power_cut:
            docker("kill", self.container)
        docker("restart", "--time", "60", self.container)
        self.wait()

    @contextmanager
    def filled(self, left_percent: int = 0) -> Iterator[None]:
        """Leave so little room on its disk (`disk_gb`), for all and for root, until the block ends."""
        filler = f"{DATA}/filler"
        free, total, size = map(int, self.run("stat", "--file-system", "--format=%a %b %S", DATA).split())
        self.run("fallocate", "--length", str((free - total * left_percent // 100) * size), filler)
        try:
            yield
        finally:
            self.run("rm", filler)

    def new_host_key(self) -> None:
        """Let it show another host key from now on; `known_hosts` keeps the old one until `trust`."""
        self.run("sh", "-c", "rm /etc/ssh/ssh_host_* && ssh-keygen -A && kill -HUP $(cat /run/sshd.pid)")

    def trust(self) -> None:
        """Put the host key of now into `known_hosts`."""

        def key() -> str:
            return self.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub", ok=False)

        eventually(lambda: key().startswith("ssh-ed25519"), BOOT_SECONDS)
        self.known_hosts.write_text(f"{self.private_address} {key()}\n")

    def wait(self) -> None:
        """Return when sshd answers and, where there is an engine, that does, too."""
        engine = "! command -v dockerd || docker version"

        def up() -> bool:
            return self.ssh("true", ok=False).code == 0 and "Cannot connect" not in self.run(
                "sh", "-c", engine, ok=False
            )

        eventually(up, BOOT_SECONDS)

    @property
    def operator_address(self) -> str:
        """This machine, as the host sees it: the gateway of its network."""
        return str(next(ipaddress.ip_network(f"{self.private_address}/24", strict=False).hosts()))


@dataclass(kw_only=True)
class Hosted(Environment):
    """A clone whose stack is on a remote host, its ports forwarded over ssh."""

    host: Host

    def __post_init__(self) -> None:
        self.docker = self.host.docker

    def reached(self, port: int) -> str:
        """As for any; a forward that broke is opened anew."""
        via = ssh_host(self.host.address, self.host.ssh_options)
        return f"127.0.0.1:{forwarded(via, port + int(self.settings.get('port_offset', 0)))}"


def host_settings(host: Host, **options: str) -> dict[str, Any]:
    """Settings `host` for a host, with other ssh options than the right ones; paths are relative to the clone."""
    known = {"UserKnownHostsFile": f"../{host.known_hosts.name}"}
    return {"address": host.address, "ssh_options": {**host.ssh_options, **known, **options}}


@contextmanager
def hosts(directory: Path, *names: str, bare: bool = False, disk_gb: int = 0) -> Iterator[list[Host]]:
    """Hosts of these names on a network of their own, ready to use.

    Args:
        directory: an existing one, for keys and known hosts.
        names: host names, at most 200; another block may use the same ones at the same time.
        bare: without a Docker engine, as a fresh Debian machine.
        disk_gb: what the engine has is on an ext4 file system of that size instead of on this machine's, where there
            are loop devices (`needs_disk`).
    """
    _remove_leftovers()
    image = _image("bare" if bare else "docker")
    key = directory / "id_ed25519"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(key)], directory, os.environ)
    network, number = _network()
    made = [
        Host(name, f"{network}-{name}", f"10.213.{number}.{place}", f"fd00:213:{number}::{place}", directory)
        for place, name in enumerate(names, start=10)
    ]
    try:
        for host in made:
            _start(host, network, image, key.with_suffix(".pub").read_text().strip(), bare=bare, disk_gb=disk_gb)
        for host in made:
            host.trust()
            host.wait()
            if not bare:
                host.run("sh", "-ec", FORGET)
        yield made
    finally:
        for host in made:
            docker("rm", "--force", "--volumes", host.container, ok=False)
        docker("network", "rm", network)


def scanned(neighbour: Host, own: str, *addresses: str) -> dict[str, set[int]]:
    """Address to the TCP ports that answer the neighbour there; `own` is the address of the host that he asks."""
    docker("cp", str(SCANNER), f"{neighbour.container}:/")
    answers = [line.split() for line in neighbour.run("python3", "/scan.py", "eth0", own, *addresses).splitlines()]
    return {
        address: {int(port) for there, port in answers if ipaddress.ip_address(there) == ipaddress.ip_address(address)}
        for address in addresses
    }


def _start(host: Host, network: str, image: str, key: str, *, bare: bool, disk_gb: int) -> None:
    data, layers = DATA, f"prefect-environment-tests-engine-{host.name}"
    # A host of another session may have them right now.
    if not bare and not docker("ps", "--all", "--quiet", "--filter", f"volume={layers}"):
        data = f"{layers}:{data}"
    docker(
        *("run", "--detach", "--name", host.container, "--hostname", host.name, "--label", f"{OWNER}={os.getpid()}"),
        *("--network", network, "--ip", host.private_address, "--ip6", host.private_address6, *RIGHTS),
        # Gone after a boot, as on any machine; and no overlay on an overlay.
        *("--tmpfs", "/run", "--volume", data),
        *([*LOOP_DEVICES, "--env", f"DISK_GB={disk_gb}"] if disk_gb and LOOP_CONTROL.exists() else []),
        *("--env", f"AUTHORIZED_KEY={key}", image),
        # BuildKit needs the scheme to go without TLS.
        f"--insecure-registry=http://{host.operator_address}:{REGISTRY_PORT}",
    )


def _network() -> tuple[str, int]:
    """A new network with both address families, and the number that is in its addresses and its name."""
    for number in range(256):
        name = f"prefect-environment-tests-{number}"
        said = docker(
            *("network", "create", "--label", f"{OWNER}={os.getpid()}", "--ipv6"),
            *("--subnet", f"10.213.{number}.0/24", "--subnet", f"fd00:213:{number}::/64", name),
            ok=False,
        )
        if "already exists" not in said and "overlaps" not in said:
            break
    docker("network", "inspect", name)
    return name, number


def _image(target: str) -> str:
    """Build the image, once for its recipe and root filesystem; return its name."""
    rootfs = artefact("rootfs")
    digest = hashlib.sha256(rootfs.key.encode())
    for file in sorted(RECIPE.iterdir()):
        digest.update(file.read_bytes())
    name = f"{IMAGE}:{target}-{digest.hexdigest()[:12]}"
    if docker("image", "ls", "--quiet", name):
        return name
    with tempfile.TemporaryDirectory() as context:
        shutil.copytree(RECIPE, context, dirs_exist_ok=True)
        shutil.copy2(rootfs.path, context)
        docker("build", "--quiet", "--target", target, "--tag", name, context)
    for superseded in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", IMAGE).split():
        if superseded.startswith(f"{IMAGE}:{target}-") and superseded != name:
            docker("image", "rm", superseded, ok=False)  # One that a host of another session runs stays.
    return name


def _remove_leftovers() -> None:
    """Remove what test sessions left that are no more."""
    for kind, command in (("container", ["rm", "--force", "--volumes"]), ("network", ["network", "rm"])):
        every = ["--all"] if kind == "container" else []
        listed = docker(
            kind, "ls", *every, "--filter", f"label={OWNER}", "--format", f'{{{{.ID}}}} {{{{.Label "{OWNER}"}}}}'
        )
        for identity, owner in (line.split() for line in listed.splitlines()):
            if not alive(int(owner)):
                docker(*command, identity, ok=False)
