"""Docker hosts: the first one and further ones."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult

from pydantic import Field, field_validator, model_validator

from settings.model import LOOPBACK, Model, url_of

FIXED_SSH_OPTIONS: Final = frozenset(
    {"batchmode", "stricthostkeychecking", "controlmaster", "controlpath", "controlpersist"}
)
IPV4: Final = 4
PRIVATE_NETWORKS: Final = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""RFC 1918, and RFC 6598, which WireGuard and other overlay networks use: what no router carries outside."""


class EndpointSettings(Model):
    """A Docker host and how it is reached."""

    address: str | None
    ssh_options: Mapping[str, str | int | bool] = Field(
        {},
        description="OpenSSH client options by name, such as IdentityFile, UserKnownHostsFile or ProxyJump; "
        "relative paths: below the project",
    )
    tls_directory: Path | None = Field(None, description="ca.pem, cert.pem and key.pem for a `tcp://` address")
    private_address: str | None = Field(
        None,
        description="its IPv4 address on the private network of the stack's hosts (see docs/further-hosts.md); "
        "without further hosts nothing is published there",
    )
    formerly: str | None = Field(
        None, description="address under which the same engine was before, where that has changed"
    )
    prepare: bool = Field(
        False,
        description="let `pulumi up` make a Docker host of a fresh Debian or Ubuntu machine (`ssh://`): "
        "[host preparation](host-preparation.md)",
    )

    @property
    def by_ssh(self) -> bool:
        """Whether the engine itself is reached over ssh."""
        return bool(self.address and self.address.startswith("ssh://"))

    @property
    def ssh_address(self) -> str | None:
        """Where ssh leads to the host, if anywhere."""
        return self.address if self.by_ssh else None

    @field_validator("address", "formerly")
    @classmethod
    def _is_an_endpoint(cls, address: str | None) -> str | None:
        if address is None:
            return None
        url = url_of(address)
        if url.scheme == "ssh":
            return _ssh_address(address)
        if url.scheme not in {"unix", "tcp", "npipe"} or (url.scheme == "tcp" and not (url.hostname and url.port)):
            raise ValueError(
                f"{address} is no Docker endpoint. Write unix:///var/run/docker.sock, tcp://host:2376 or ssh://user@host"
            )
        return address

    @field_validator("ssh_options")
    @classmethod
    def _are_ours_to_set(cls, options: Mapping[str, str | int | bool]) -> Mapping[str, str | int | bool]:
        for name in options:
            if not name.isalnum():
                raise ValueError(f"{name} is no option of OpenSSH; see https://man.openbsd.org/ssh_config")
            if name.lower() in FIXED_SSH_OPTIONS:
                raise ValueError(
                    f"{name} can't be set: host keys are always checked, and nothing asks at a terminal. Remove it"
                )
        return options

    @field_validator("private_address")
    @classmethod
    def _is_private(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            address = ip_address(text)
        except ValueError:
            raise ValueError(f"{text} is no IP address. Give the host's on the private network, as 10.0.0.5") from None
        if address.version != IPV4:
            raise ValueError(
                f"{text} is an IPv6 address, and the networks of containers have IPv4 alone: nothing would reach it. "
                "Give the host's IPv4 address on the private network"
            )
        if not any(address in network for network in PRIVATE_NETWORKS):
            raise ValueError(
                f"{text} is on no private network ({', '.join(map(str, PRIVATE_NETWORKS))}), and whoever reaches the "
                "ports there can run code on the hosts. Give the host's address on a private network or WireGuard"
            )
        return text

    @model_validator(mode="after")
    def _endpoint_fits(self) -> Self:
        url = url_of(self.address or "")
        if self.tls_directory and url.scheme != "tcp":
            raise ValueError("tls_directory: it is for a tcp:// address, and would not be used. Remove it")
        if self.ssh_options and not self.ssh_address:
            raise ValueError("ssh_options: they are for an ssh:// address, and would not be used. Remove them")
        if _is_afar(url) and self.tls_directory is None:
            raise ValueError(
                "tls_directory: without TLS everyone who can reach the port would own the host. "
                "Name the directory with ca.pem, cert.pem and key.pem, or use an ssh:// address"
            )
        if self.prepare and url.scheme != "ssh":
            raise ValueError(
                "prepare: a host is prepared over ssh, and this one is reached otherwise. Name its ssh:// address, or "
                "remove `prepare` and do by hand what docs/host-preparation.md tells"
            )
        missing = [
            name
            for name in ("ca.pem", "cert.pem", "key.pem")
            if self.tls_directory and not (self.tls_directory / name).is_file()
        ]
        if missing:
            raise ValueError(f"tls_directory: {self.tls_directory} lacks {', '.join(missing)}. Put them there")
        return self


class HostSettings(EndpointSettings):
    """The first Docker host: everything runs on it but what is placed on further hosts."""

    address: str | None = Field(
        None,
        description="`unix://PATH`, `tcp://HOST:PORT` or `ssh://[USER@]HOST[:PORT]`; "
        "default: DOCKER_HOST, else the local socket",
    )
    forward: str | None = Field(
        None, description="`ssh://...` of the same host, for a `tcp://` address: how its loopback is reached"
    )

    @property
    def ssh_address(self) -> str | None:
        """Where ssh leads to the host; None for this machine's own engine."""
        return super().ssh_address or self.forward

    @property
    def remote(self) -> bool:
        """Whether the host is another machine than the one that Pulumi runs on."""
        return self.ssh_address is not None

    @field_validator("forward")
    @classmethod
    def _is_ssh(cls, forward: str | None) -> str | None:
        return _ssh_address(forward) if forward else None

    @model_validator(mode="after")
    def _forward_fits(self) -> Self:
        url = url_of(self.address or "")
        if self.forward and url.scheme != "tcp":
            raise ValueError("forward: it is for a tcp:// address, and would not be used. Remove it")
        if _is_afar(url) and self.forward is None:
            raise ValueError(
                "forward: MinIO and Prefect are published on that host's loopback only, and could not be reached. "
                "Name the host's ssh:// address, or use that as the address"
            )
        return self


class FurtherHostSettings(EndpointSettings):
    """One more Docker host, which runs Dask workers, or the Prefect workers that name it."""

    address: str = Field(description="as `host.address`")
    dask_workers: int = Field(0, ge=0, le=99, description="containers of Dask workers there")


def _is_afar(url: SplitResult) -> bool:
    """Whether it is an engine's TCP port on another machine."""
    return url.scheme == "tcp" and url.hostname not in LOOPBACK


def _ssh_address(address: str) -> str:
    url = url_of(address)
    if url.password:
        raise ValueError("an ssh address holds no password, which anybody could read here. Use a key")
    if url.scheme != "ssh" or not url.hostname or url.path.strip("/"):
        raise ValueError(f"{address} is no ssh address. Write ssh://user@host or ssh://user@host:port, and no more")
    return address
