"""A Docker host: how the program reaches it, and the agreement that it stays the same one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pulumi
import pulumi_docker as docker
from pulumi_command import local

from components.host_preparation import launch, preparation
from components.service import Port
from providers.connection import EngineConnection
from providers.host_contract import HostContract, HostContractArgs
from providers.ssh import SshHost, flags, ssh_host, typed
from settings import EndpointSettings

LOCAL: Final = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class DockerHostArgs:
    """What a host needs."""

    settings: EndpointSettings
    private_address: str | None = None
    """Where other hosts of the stack reach what it publishes; None in a stack of one host."""
    setting: str = "host"
    """Path of the settings."""
    holds_data: bool = True
    """Whether volumes with data are on it: then the agreement stays as long as they do."""
    data_directory: Path | None = None
    """Directory on it for data outside of volumes: made where the host is prepared and has none."""


class DockerHost(pulumi.ComponentResource):
    """A Docker host and its provider."""

    provider: docker.Provider
    private_address: str | None
    via: SshHost | None
    """How its loopback is reached; None where it is this machine's own."""
    engine: EngineConnection
    """How its engine is reached, past the provider."""

    def __init__(self, name: str, args: DockerHostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:DockerHost", name, None, opts)
        settings = args.settings
        self.private_address = args.private_address
        self.via = ssh_host(settings.ssh_address, settings.ssh_options) if settings.ssh_address else None
        self.engine = EngineConnection(server=args.setting, url=settings.address or LOCAL)
        if self.via and settings.by_ssh:
            self.engine["via"] = self.via
        if settings.tls_directory:
            self.engine["tls_directory"] = settings.tls_directory.as_posix()
        agreed = HostContract(
            f"{name}-terms",
            HostContractArgs(
                {f"{args.setting}.address": _place(settings.address)},
                args.setting,
                {f"{args.setting}.address": _place(settings.formerly)} if settings.formerly else {},
            ),
            pulumi.ResourceOptions(parent=self, protect=args.holds_data),
        )
        ready: pulumi.Resource = agreed
        address: pulumi.Input[str] | None = settings.address
        if settings.prepare and self.via:
            ready = local.Command(
                f"{name}-preparation",
                # The time is compared there; asked for here, it would be a change every time.
                create=f'{shlex.join(launch(self.via))} "$(date +%s)"',
                stdin=preparation(args.data_directory, args.private_address),
                opts=pulumi.ResourceOptions(parent=self, depends_on=[agreed]),
            )
            # Does nothing, after the preparation: what it says is unknown until a host was prepared once, so that a
            # preview asks no engine that is still to be installed, and known ever after, whatever changes.
            once = local.Command(
                f"{name}-prepared", create="true", opts=pulumi.ResourceOptions(parent=self, depends_on=[ready])
            )
            there = self.via["address"]
            address = once.stdout.apply(lambda _: there)
        # At the root: the state refers to a provider by its place in the tree.
        self.provider = docker.Provider(
            "docker" if args.setting == "host" else f"docker-{name}",
            host=address,
            ssh_opts=flags(self.via) if self.via and settings.by_ssh else None,
            cert_path=settings.tls_directory.as_posix() if settings.tls_directory else None,
            opts=pulumi.ResourceOptions(depends_on=[ready]),
        )
        self.register_outputs({})

    @property
    def options(self) -> pulumi.ResourceOptions:
        """Options of what is on this host."""
        return pulumi.ResourceOptions(providers=[self.provider])

    def published(self, outside: int, inside: int) -> list[Port]:
        """Publish a container's port on the host's loopback and, where other hosts need it, at its private address."""
        addresses = [self.private_address] if self.private_address else []
        return [Port(outside, inside), *(Port(outside, inside, address) for address in addresses)]

    def command(self, *docker_words: str) -> str:
        """Return an interactive docker command for people to type."""
        there = shlex.join(["docker", *docker_words])
        if self.via is None:
            return there
        return shlex.join([*typed(self.via, "-t"), there])


def _place(address: str | None) -> str:
    """Return an address without the user: another one reaches the same engine."""
    url = urlsplit(address or LOCAL)
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
