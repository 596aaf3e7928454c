"""The front door: which hosts a Caddy serves, and with which certificates."""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from settings.model import PORT_MAX, MemoryMb, Model

HTTPS_PORT: Final = 443
HostLabel = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$")
]
"""What stands before the domain in a host name, such as `tasks` in tasks.example.com; may have dots itself."""


class ProxyMode(StrEnum):
    """Whose Caddy serves the hosts."""

    NONE = "none"
    MANAGED = "managed"
    EXTERNAL = "external"


class Certificates(StrEnum):
    """Where the managed Caddy has its certificates from."""

    ACME = "acme"
    FILES = "files"
    INTERNAL = "internal"


class ExternalProxySettings(Model):
    """A Caddy container that is there already, on the first host and on `networks.caddy.external`."""

    container: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]+$", description="its name")
    snippet: PurePosixPath = Field(
        PurePosixPath("/etc/caddy/sites/prefect.caddy"),
        description="file in it that the routes are written to; on a mount, and imported by its Caddyfile",
    )
    caddyfile: PurePosixPath = Field(PurePosixPath("/etc/caddy/Caddyfile"), description="what it is reloaded with")

    @field_validator("snippet", "caddyfile")
    @classmethod
    def _is_whole(cls, path: PurePosixPath) -> PurePosixPath:
        if not re.fullmatch(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+", path.as_posix()):
            raise ValueError(
                f"{path} is no whole path in the container of letters, digits, dots and dashes, as an import "
                "in a Caddyfile has it. Write one such as /etc/caddy/sites/prefect.caddy"
            )
        return path


class ProxySettings(Model):
    """The hosts that people and machines reach the stack by, over HTTPS."""

    mode: ProxyMode = Field(
        ProxyMode.NONE,
        description="`managed`: a Caddy of the stack's own; `external`: one that is there already; `none`: "
        "everything stays on the Docker host's loopback",
    )
    domain: Annotated[HostLabel, StringConstraints(pattern=r"\.")] | None = Field(
        None, description="what all host names end in, such as example.com; sessions are for it and all below it"
    )
    tasks: HostLabel = Field("tasks", description="host of Prefect's UI, below the domain")
    api: HostLabel = Field("tasks-api", description="host of Prefect's API for machines: no log-in, its own credential")
    storage: HostLabel = Field("storage", description="host of the S3 API, below the domain")
    storage_console: HostLabel = Field("storage-console", description="host of MinIO's console, below the domain")
    metrics: HostLabel = Field("metrics", description="host of Prometheus, where there is one, below the domain")
    dashboards: HostLabel = Field("dashboards", description="host of Grafana, where there is one, below the domain")
    certificates: Certificates = Field(
        Certificates.ACME,
        description="`acme`: from a public authority; `files`: yours; `internal`: from an authority of Caddy's own, "
        "which browsers don't know",
    )
    acme_email: str | None = Field(None, description="where the authority writes to when something is wrong")
    acme_directory: str | None = Field(None, description="URL of another authority's directory; default: Let's Encrypt")
    certificate_directory: PurePosixPath | None = Field(
        None,
        description="with certificates `files`: directory on the Docker host with fullchain.pem and privkey.pem, "
        "for all the hosts",
    )
    address: str = Field("0.0.0.0", description="IPv4 address of the Docker host that it listens on; default: all")  # noqa: S104
    http_port: int = Field(80, ge=1, le=PORT_MAX, description="leads to HTTPS, and answers the authority's challenges")
    https_port: int = Field(HTTPS_PORT, ge=1, le=PORT_MAX, description="the hosts' port, and part of their URLs")
    external: ExternalProxySettings | None = Field(
        None, description="with mode external: the container to write the routes to; default: they are an output only"
    )
    memory_mb: MemoryMb = 256

    def host(self, label: str) -> str:
        """The whole name of a host, by its label below the domain."""
        return f"{label}.{self.domain}"

    def url(self, label: str) -> str:
        """The base URL of a host, without a slash at the end."""
        port = "" if self.https_port == HTTPS_PORT else f":{self.https_port}"
        return f"https://{self.host(label)}{port}"

    @property
    def serves(self) -> bool:
        """Whether there is a proxy at all."""
        return self.mode is not ProxyMode.NONE

    @property
    def on_loopback(self) -> bool:
        """Whether only the Docker host itself reaches the managed proxy."""
        return ip_address(self.address).is_loopback

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        if not re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", text):
            raise ValueError(f"{text} is no IPv4 address. Give one of the Docker host's, or 0.0.0.0 for all")
        ip_address(text)
        return text

    @field_validator("acme_directory")
    @classmethod
    def _is_https(cls, url: str | None) -> str | None:
        if url and not re.fullmatch(r"https://[^\s/{}]+(/[^\s{}]*)?", url):
            raise ValueError(f"{url} is no directory of an authority. Write https://host/path")
        return url

    @field_validator("acme_email")
    @classmethod
    def _is_mail(cls, address: str | None) -> str | None:
        if address and not re.fullmatch(r"[^\s@{}\"]+@[^\s@{}\"]+", address):
            raise ValueError(f"{address} is no mail address. Write name@example.com")
        return address

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = []
        if self.serves and self.domain is None:
            problems.append("domain: without it the hosts have no names. Give the domain that they are below")
        labels = [self.tasks, self.api, self.storage, self.storage_console]
        twins = {label for label in labels if labels.count(label) > 1}
        problems += [f"{label!r} is the name of two hosts; one would never answer. Rename either" for label in twins]
        if self.external and self.mode is not ProxyMode.EXTERNAL:
            problems.append(f"external: with mode {self.mode} it would not be used. Remove it, or set mode: external")
        if self.mode is ProxyMode.MANAGED and (self.certificates is Certificates.FILES) != bool(
            self.certificate_directory
        ):
            problems.append(
                "certificate_directory: it goes with certificates: files, and only with them. Give both or neither"
            )
        if self.certificate_directory and not self.certificate_directory.is_absolute():
            problems.append(f"certificate_directory: {self.certificate_directory} must begin with /: it is on the host")
        if problems:
            raise ValueError("\n".join(problems))
        return self
