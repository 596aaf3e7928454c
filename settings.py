"""What a stack's YAML may say: the one reader of Pulumi's configuration.

Every key below `prefect-environment:` in a `Pulumi.<stack>.yaml` is one field of `Settings`. The models are frozen
and refuse unknown keys; whatever cannot work raises `SettingsError` before any resource is declared, with the
path of the setting, what would happen and how to mend it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

NAMESPACE: Final = "prefect-environment"
SECRETS: Final = (
    "postgres.password",
    "postgres.external.password",
    "minio.root_password",
    "minio.external.secret_key",
)
"""Settings that must be config secrets."""
DASK_BLOCK: Final = "dask-block"
PORT_MAX: Final = 65535
DEBIAN_POSTGRES_MAJOR: Final = "15"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
FIXED_SSH_OPTIONS: Final = frozenset(
    {"batchmode", "stricthostkeychecking", "controlmaster", "controlpath", "controlpersist"}
)
IPV4: Final = 4
PRIVATE_NETWORKS: Final = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""RFC 1918, and RFC 6598, which WireGuard and other overlay networks use: what no router carries outside."""
HOST_NAME_MAX: Final = 63
# The longest object name is <project>-<stack>-prefect-worker-<worker>-<replica>; it is a host name, too.
LONGEST_SUFFIX: Final = len("-prefect-worker--99")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$")]
"""A name that is at once a Docker, Prefect and S3 key part: lower case, digits and dashes, at most 30 characters."""

MemoryMb = Annotated[int, Field(ge=64, description="memory limit of one container, in MiB")]


class SettingsError(pulumi.RunError):
    """A setting that cannot work; the text names its path, the consequence and the fix. Shown without a traceback."""


class Model(BaseModel):
    """What all settings share: immutable, and a misspelt key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Profiles(Model):
    """Which parts run, as the compose profiles of old: each can be switched off."""

    orion: bool = Field(True, description="Postgres and the Prefect server")
    agent: bool = Field(True, description="the Prefect workers")
    cli: bool = Field(True, description="the CLI box (modelled, started on demand)")
    minio: bool = Field(True, description="MinIO, its bucket, user and policy")
    dask: bool = Field(True, description="a Dask scheduler and its workers")


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
        url = _url(address)
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
        url = _url(self.address or "")
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
        url = _url(self.address or "")
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


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        raise ValueError(f"{text} is no URL: {error}") from None
    return url


def _is_afar(url: SplitResult) -> bool:
    """Whether it is an engine's TCP port on another machine."""
    return url.scheme == "tcp" and url.hostname not in LOOPBACK


def _ssh_address(address: str) -> str:
    url = _url(address)
    if url.password:
        raise ValueError("an ssh address holds no password, which anybody could read here. Use a key")
    if url.scheme != "ssh" or not url.hostname or url.path.strip("/"):
        raise ValueError(f"{address} is no ssh address. Write ssh://user@host or ssh://user@host:port, and no more")
    return address


class ImageSource(StrEnum):
    """Where images come from."""

    REGISTRY = "registry"
    BUILD = "build"


class ImageSettings(Model):
    """Where images come from, and what their builds need to reach package indexes."""

    source: ImageSource = Field(ImageSource.REGISTRY, description="`registry`: pulled; `build`: from Debian, PyPI, Go")
    prefect: str = Field(
        "prefecthq/prefect:3.8.8-python3.11",
        description="base of the Prefect image (source registry); our lock is installed over it",
    )
    postgres: str = Field(
        "postgres:17.10-bookworm@sha256:4f736ae292687621d4dbe0d499ffd024a36bd2ee7d8ca6f2ccd4c800f047b394",
        description="the Postgres image (source registry)",
    )
    minio: str = Field(
        "pgsty/silo:RELEASE.2026-09-16T00-00-00Z"
        "@sha256:635197cb9f36d01bee221d34d1c7d7960f6a95c48b0b6c01d99cd13bdae51a46",
        description="the MinIO image (source registry); its maintained fork, see docs/adr",
    )
    ca_bundle: Path | None = Field(None, description="PEM file with the CAs that builds and containers trust as well")
    index_url: str | None = Field(None, description="Python package index used by builds; default: PyPI")
    proxy: str | None = Field(None, description="HTTP(S) proxy used by builds")

    @property
    def postgres_major(self) -> str:
        """Major version of Postgres: Debian's with source `build`, else what the reference's tag says."""
        if self.source is ImageSource.BUILD:
            return DEBIAN_POSTGRES_MAJOR
        tag = self.postgres.partition("@")[0].rpartition(":")[2]
        return tag.partition("-")[0].partition(".")[0]

    @field_validator("postgres")
    @classmethod
    def _major_is_told(cls, reference: str) -> str:
        if not re.search(r":\d+([.-][^:/]*)?$", reference.partition("@")[0]):
            raise ValueError(
                f"{reference} does not say a version, and another major version can't read the data. "
                "Use a tag that begins with it, such as postgres:17.10-bookworm"
            )
        return reference

    @field_validator("index_url", "proxy")
    @classmethod
    def _without_credentials(cls, url: str | None) -> str | None:
        # Build arguments end in the image's history, readable by whoever can pull it.
        if url and urlsplit(url).password:
            raise ValueError(
                "the URL holds a password, which would be readable in the image's history; "
                "use a host that needs none, or put the credentials into the proxy itself"
            )
        return url

    @field_validator("ca_bundle")
    @classmethod
    def _is_pem(cls, path: Path | None) -> Path | None:
        if path and not (path.is_file() and "BEGIN CERTIFICATE" in path.read_text(errors="replace")):
            raise ValueError(
                f"{path} is no PEM file with certificates; builds would fail on TLS. Name an existing file"
            )
        return path


class NetworkSettings(Model):
    """One network: the stack's own, or an existing one."""

    external: str | None = Field(None, description="name of an existing Docker network to use instead of a new one")


class NetworksSettings(Model):
    """The networks, as the article has them. The database's own network is always the stack's."""

    prefect: NetworkSettings = NetworkSettings()
    minio: NetworkSettings = NetworkSettings()
    caddy: NetworkSettings = NetworkSettings()
    dask: NetworkSettings = NetworkSettings()
    claim_short_names: bool = Field(
        False, description="answer to `scheduler`, `minio`, `prefect-server` on external networks, too"
    )

    @property
    def external(self) -> dict[str, str]:
        """Network to the name of the existing one that is used instead."""
        named = {"prefect": self.prefect, "minio": self.minio, "caddy": self.caddy, "dask": self.dask}
        return {name: network.external for name, network in named.items() if network.external}


class Mode(StrEnum):
    """Whose a server is."""

    MANAGED = "managed"
    EXTERNAL = "external"


class ServedSettings(Model):
    """What a server of the stack provides, or one that is there already."""

    mode: Mode = Field(Mode.MANAGED, description="`managed`: the stack's own; `external`: one that is there already")
    external: Model | None

    @model_validator(mode="after")
    def _mode_fits(self) -> Self:
        if self.mode is Mode.EXTERNAL and self.external is None:
            raise ValueError("external: mode external needs to know where it is and who may use it. Name both there")
        if self.mode is Mode.MANAGED and self.external is not None:
            raise ValueError("external: with mode managed it would not be used. Remove it, or set mode: external")
        return self


def _is_seen_by_containers(host: str) -> None:
    if host in LOOPBACK:
        raise ValueError(
            f"{host} is each container's own loopback, where nothing answers. Give an address that containers reach"
        )


class ExternalPostgresSettings(Model):
    """A database that is there already. Everything in it belongs to Prefect."""

    host: str = Field(description="as containers on the first host reach it")
    port: int = Field(5432, ge=1, le=PORT_MAX, description="its port")
    database: str = Field("prefect", description="name of the database; it exists")
    user: str = Field("prefect", description="role that the server signs in as; it owns the database")
    password: SecretStr = Field(description="the role's password")
    tls: bool = Field(
        True, description="encrypt, and check the certificate: by known authorities and those of images.ca_bundle"
    )

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+", host):
            raise ValueError(f"{host} is no host's name or address. Give that alone; port and database have settings")
        _is_seen_by_containers(host)
        return host


class PostgresSettings(ServedSettings):
    """Prefect's database."""

    external: ExternalPostgresSettings | None = Field(None, description="with mode external: where it is")
    user: Name = Field("prefect", description="role that the server signs in as")
    database: Name = Field("prefect", description="name of the database")
    password: SecretStr | None = Field(None, description="default: generated and kept in state")
    memory_mb: MemoryMb = 512


class ServerSettings(Model):
    """The Prefect server."""

    port: int = Field(4200, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    ui_api_url: str | None = Field(None, description="API URL that the browser uses; default: the published port's")
    flow_run_retention_days: int | None = Field(
        90, ge=1, description="finished flow runs older than this are deleted; null keeps them for ever"
    )
    event_retention_days: int = Field(7, ge=1, description="events older than this are deleted")
    memory_mb: MemoryMb = 1024

    @property
    def url(self) -> str:
        """The server as published on its host."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def browser_api_url(self) -> str:
        """The API as a browser reaches it."""
        return self.ui_api_url or f"{self.url}/api"


class WorkerSettings(Model):
    """One Prefect worker and the work pool that it serves."""

    pool: Name = Field(description="work pool that it serves; made with it")
    queues: tuple[Name, ...] = Field(("default",), min_length=1, description="queues of the pool that it takes from")
    host: Name | None = Field(None, description="the further host (below `hosts`) that it runs on; default: the first")
    type: Literal["process"] = Field("process", description="type of the pool: flow runs are processes of the worker")
    replicas: int = Field(1, ge=1, le=99, description="containers that serve the pool")
    requirements: tuple[str, ...] = Field((), description="pip requirements added to this worker's image")
    drain_seconds: int = Field(
        300, ge=10, description="how long a worker that is being replaced may finish its flow runs"
    )
    memory_mb: MemoryMb = 1024


class ExternalMinioSettings(Model):
    """An S3 store that is there already, with a bucket (`minio.bucket`) and a key that may read and write it."""

    endpoint: str = Field(description="URL of its S3 API, as containers and the machine that Pulumi runs on reach it")
    region: str = Field("us-east-1", description="region of the bucket; MinIO's is the default")
    access_key: str = Field(description="id of the key")
    secret_key: SecretStr = Field(description="the key's secret")

    @field_validator("endpoint")
    @classmethod
    def _is_a_base_url(cls, endpoint: str) -> str:
        url = _url(endpoint)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.path.strip("/") or url.query:
            raise ValueError(f"{endpoint} is no endpoint. Write https://host or https://host:port, and no more")
        _is_seen_by_containers(url.hostname)
        return endpoint.rstrip("/")


class MinioSettings(ServedSettings):
    """The S3 store, its bucket and the user that flows use."""

    external: ExternalMinioSettings | None = Field(None, description="with mode external: where it is")
    api_port: int = Field(9000, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    console_port: int = Field(9001, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    server_url: str | None = Field(None, description="MINIO_SERVER_URL: public URL of the S3 API, behind a proxy")
    browser_redirect_url: str | None = Field(None, description="MINIO_BROWSER_REDIRECT_URL: public URL of the console")
    root_user: Annotated[str, StringConstraints(min_length=3, max_length=20)] = Field(
        "minio-root", description="the administrator"
    )
    root_password: SecretStr | None = Field(None, min_length=8, description="default: generated and kept in state")
    bucket: Annotated[Name, StringConstraints(min_length=3)] = Field(
        "flows", description="bucket for flows' code and persisted results"
    )
    user: Annotated[Name, StringConstraints(min_length=3, max_length=20)] = Field(
        "prefect-user", description="user that flows act as; it may touch that bucket only"
    )
    data_directory: Path | None = Field(
        None, description="directory on the Docker host that holds the data; default: a volume of the stack's own"
    )
    adopt: bool = Field(
        False, description="take over the bucket, user and policy of these names where the store has them already"
    )
    memory_mb: MemoryMb = 1024

    @model_validator(mode="after")
    def _data_is_here(self) -> Self:
        if self.data_directory and self.mode is Mode.EXTERNAL:
            raise ValueError("data_directory: the external store keeps its own data; it would not be used. Remove it")
        return self

    @field_validator("data_directory")
    @classmethod
    def _is_whole(cls, directory: Path | None) -> Path | None:
        if directory and not directory.is_absolute():
            raise ValueError(f"{directory} is a path on the Docker host, and must begin with /. Give the whole path")
        return directory


class DaskSettings(Model):
    """A Dask cluster in the stack, or the address of one elsewhere."""

    workers: int = Field(2, ge=0, le=99, description="worker containers on the first host")
    threads: int = Field(2, ge=1, description="threads of one worker")
    image_of: Name = Field("dask", description="the worker (below `workers`) whose image scheduler and workers run")
    dashboard_port: int = Field(8787, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    scheduler_port: int = Field(
        8786, ge=1, le=PORT_MAX, description="published on host.private_address where there are further hosts"
    )
    worker_port: int = Field(
        8800,
        ge=1,
        le=PORT_MAX,
        description="port of a host's first worker, the next one's is one higher: published on the host's "
        "private_address where there are further hosts",
    )
    address: str | None = Field(
        None,
        pattern=r"^((tcp|tls)://)?[A-Za-z0-9.-]+:\d+$",
        description="scheduler of an external cluster, reached over networks.dask (needs profiles.dask: false)",
    )
    memory_mb: MemoryMb = 1024


class CliSettings(Model):
    """The CLI box."""

    flows_directory: Path | None = Field(
        None,
        description="directory on the Docker host that the box works in; default: flows/ where that is this machine",
    )
    memory_mb: MemoryMb = 1024


class ScheduleSettings(Model):
    """When a deployment runs by itself: `cron` or `interval_seconds`."""

    cron: str | None = Field(None, description="five fields, such as `0 6 * * *`")
    interval_seconds: int | None = Field(None, ge=1, description="instead of `cron`: seconds between two runs")
    timezone: str = Field("UTC", description="IANA name, such as Europe/Warsaw")
    active: bool | None = Field(None, description="default: on when created, then as set in Prefect's UI")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("a schedule has either `cron` or `interval_seconds`; it would never run. Give one of them")
        return self


class DeploymentSettings(Model):
    """One deployment of a flow."""

    entrypoint: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")] = Field(
        description="file and function below the project's path, such as dask_flow.py:greetings"
    )
    flow: str | None = Field(None, description="the flow's name; default: the function's, with dashes")
    parameters: Mapping[str, object] = Field({}, description="the flow's parameters by name")
    schedules: tuple[ScheduleSettings, ...] = Field((), description="when it runs by itself")
    tags: tuple[str, ...] = Field((), description="tags of its runs")
    description: str | None = Field(None, description="text shown in Prefect's UI")
    concurrency_limit: int | None = Field(None, ge=1, description="runs at the same time; default: no limit")

    @property
    def flow_name(self) -> str:
        """The flow's name in Prefect: as set, else what Prefect makes of the function's name."""
        return self.flow or self.entrypoint.rpartition(":")[2].replace("_", "-")


class FlowSettings(Model):
    """A directory of flows with its deployments; without `worker` it gets a worker and a pool of its own."""

    path: Path = Field(description="directory with the code; relative to the program's")
    worker: Name | None = Field(None, description="a worker below `workers`; default: one of its own, named after it")
    queue: Name | None = Field(None, description="queue of that worker; default: the worker's first")
    deployments: Mapping[Name, DeploymentSettings] = Field(min_length=1, description="its deployments by name")

    @property
    def requirements_file(self) -> Path:
        """The packages that the project's own worker gets, if the file exists."""
        return self.path / "requirements.txt"

    @model_validator(mode="after")
    def _entrypoints_exist(self) -> Self:
        if not self.path.is_dir():
            raise ValueError(f"path: {self.path} is no directory; there would be no code to run. Name an existing one")
        for name, deployment in self.deployments.items():
            file = self.path / deployment.entrypoint.rpartition(":")[0]
            if not file.is_file():
                raise ValueError(
                    f"deployments.{name}.entrypoint: {file} does not exist; every run would fail. Mend the file's name"
                )
        return self


class Settings(Model):
    """All settings of one stack."""

    profiles: Profiles = Profiles()
    host: HostSettings = HostSettings()
    hosts: Mapping[Name, FurtherHostSettings] = Field({}, description="further hosts by name")
    images: ImageSettings = ImageSettings()
    networks: NetworksSettings = NetworksSettings()
    port_offset: int = Field(0, ge=0, le=50000, description="added to every published port: stacks share a host")
    postgres: PostgresSettings = PostgresSettings()
    server: ServerSettings = ServerSettings()
    workers: Mapping[Name, WorkerSettings] = Field(
        {"dask": WorkerSettings(pool="dask-pool", queues=("dask-queue",))}, description="Prefect workers by name"
    )
    minio: MinioSettings = MinioSettings()
    dask: DaskSettings = DaskSettings()
    cli: CliSettings = CliSettings()
    flows: Mapping[Name, FlowSettings] = Field({}, description="flow projects by name")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = [
            *self._host_problems(),
            *self._further_host_problems(),
            *self._profile_problems(),
            *self._port_problems(),
            *self._flow_problems(),
            *self._worker_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _host_problems(self) -> list[str]:
        directory = self.cli.flows_directory
        if directory and self.host.remote and not directory.is_absolute():
            problem = (
                f"cli.flows_directory: {directory} is relative to a directory of this machine, which the host "
                f"{self.host.address} can't see. Give the whole path on that host, or leave it out"
            )
            return [problem]
        return []

    @property
    def flows_directory(self) -> str | None:
        """The directory on the Docker host that the CLI box works in, if any."""
        directory = self.cli.flows_directory or (None if self.host.remote else Path("flows"))
        return directory.resolve().as_posix() if directory else None

    def _profile_problems(self) -> list[str]:
        on = self.profiles
        problems = [
            f"profiles.{part}: {what} would have no API to talk to. Set profiles.orion: true or profiles.{part}: false"
            for part, what, switched_on in (("agent", "the workers", on.agent), ("cli", "the CLI box", on.cli))
            if switched_on and not on.orion
        ]
        if on.dask and self.dask.address:
            problems.append(
                "dask.address: it names an external cluster while profiles.dask starts another one that nothing "
                "would use. Set profiles.dask: false or remove the address"
            )
        if on.dask and self.dask.image_of not in self.workers:
            problems.append(
                f"dask.image_of: there is no workers.{self.dask.image_of}, so Dask would have no image. "
                f"Name one of: {', '.join(self.workers)}"
            )
        if on.dask and not any(self.dask_workers.values()):
            problems.append(
                "dask.workers: with none here and none on further hosts, tasks would wait for ever. "
                "Set it to 1 or more, or profiles.dask: false"
            )
        return problems

    def _further_host_problems(self) -> list[str]:
        problems = [
            f"workers.{name}.host: there is no hosts.{worker.host}, so it would run nowhere. "
            f"Name one of: {', '.join(self.hosts) or 'none, as hosts is empty'}; or leave it out for the first host"
            for name, worker in self.workers.items()
            if worker.host and worker.host not in self.hosts
        ]
        if self.hosts and not self.host.private_address:
            problems.append(
                f"host.private_address: what runs on {', '.join(self.hosts)} would not find Prefect, MinIO and Dask. "
                "Give the first host's address on the private network that the hosts share"
            )
        placed = {worker.host for worker in self.workers.values()}
        taken = {self.host.private_address: "host"}
        for name, host in self.hosts.items():
            if host.dask_workers and not self.profiles.dask:
                problems.append(
                    f"hosts.{name}.dask_workers: there is no scheduler for them. "
                    f"Set profiles.dask: true or remove hosts.{name}.dask_workers"
                )
            if host.dask_workers and not host.private_address:
                problems.append(
                    f"hosts.{name}.private_address: the scheduler and other workers would not reach the Dask workers "
                    "there. Give the host's address on the private network that the hosts share"
                )
            if not host.dask_workers and name not in placed:
                problems.append(
                    f"hosts.{name}: nothing would run there. Give it dask_workers, name it in a workers.<name>.host, "
                    "or remove it"
                )
            other = taken.setdefault(host.private_address, f"hosts.{name}") if host.private_address else None
            if other not in {None, f"hosts.{name}"}:
                problems.append(
                    f"hosts.{name}.private_address: {host.private_address} is {other}'s already, and what is sent to "
                    "one host would reach the other. Give each its own; one machine is one host"
                )
        return problems

    def _port_problems(self) -> list[str]:
        problems = []
        ports = {path: _shifted(ports, self.port_offset) for path, ports in self.ports().items()}
        for name, own in ports.items():
            if own and own[-1] > PORT_MAX:
                problems.append(f"{name}: {own[-1]} (with port_offset) is above {PORT_MAX}. Lower it or port_offset")
            twins = [(other, port) for other in ports if other > name for port in own if port in ports[other]]
            if twins:
                other, port = twins[0]
                problems.append(f"{name}: port {port} is also {other}; one could not start. Give them different ones")
        return problems

    def _flow_problems(self) -> list[str]:
        problems = []
        if self.flows and not (self.profiles.orion and self.profiles.minio):
            problems.append(
                "flows: deployments live in the Prefect server and their code in MinIO. "
                "Set profiles.orion and profiles.minio to true, or remove the flows"
            )
        for name, project in self.flows.items():
            if project.worker is None:
                if name in self.workers:
                    problems.append(
                        f"flows.{name}: its own worker would be named like workers.{name}. "
                        f"Set flows.{name}.worker: {name} to use that one, or rename either"
                    )
                continue
            worker = self.workers.get(project.worker)
            if worker is None:
                problems.append(
                    f"flows.{name}.worker: there is no workers.{project.worker}, so its runs would stay late for "
                    f"ever. Name one of: {', '.join(self.workers)}; or leave it out to get one of its own"
                )
                continue
            if project.queue and project.queue not in worker.queues:
                problems.append(
                    f"flows.{name}.queue: workers.{project.worker} does not serve {project.queue}, so its runs would "
                    f"stay late for ever. Name one of: {', '.join(worker.queues)}"
                )
            if project.requirements_file.is_file():
                problems.append(
                    f"flows.{name}.worker: {project.requirements_file} would not be installed, since "
                    f"workers.{project.worker} is shared. Move its lines to workers.{project.worker}.requirements, "
                    f"or leave flows.{name}.worker out to get a worker with these packages"
                )
        return problems

    def _worker_problems(self) -> list[str]:
        pools: dict[str, str] = {}
        problems = []
        for name, worker in self.all_workers().items():
            if worker.pool in pools:
                problems.append(
                    f"workers.{name}.pool: {worker.pool} is already the pool of {pools[worker.pool]}; two workers with "
                    "different packages would take each other's runs. Give it a pool of its own, or use replicas"
                )
            pools.setdefault(worker.pool, name)
        return problems

    def all_workers(self) -> dict[str, WorkerSettings]:
        """The workers by name: those below `workers`, and one for each flow project that names none."""
        own = {
            name: WorkerSettings(pool=name, requirements=requirement_lines(project.requirements_file))
            for name, project in self.flows.items()
            if project.worker is None
        }
        return {**self.workers, **own}

    @property
    def shared_address(self) -> str | None:
        """Where all hosts reach the first one; None for a stack of one host, which opens no port to others."""
        return self.host.private_address if self.hosts else None

    @property
    def dask_workers(self) -> dict[str | None, int]:
        """Host to its number of Dask workers; None is the first host."""
        return {None: self.dask.workers, **{name: host.dask_workers for name, host in self.hosts.items()}}

    def ports(self) -> dict[str, range]:
        """Setting path to ports on a Docker host, of the parts that are switched on."""
        on, managed_minio = self.profiles, self.profiles.minio and self.minio.mode is Mode.MANAGED
        shared_dask = on.dask and bool(self.hosts)
        ports = {
            "server.port": (on.orion, self.server.port, 1),
            "minio.api_port": (managed_minio, self.minio.api_port, 1),
            "minio.console_port": (managed_minio, self.minio.console_port, 1),
            "dask.dashboard_port": (on.dask, self.dask.dashboard_port, 1),
            "dask.scheduler_port": (shared_dask, self.dask.scheduler_port, 1),
            "dask.worker_port": (shared_dask, self.dask.worker_port, max(self.dask_workers.values())),
        }
        return {path: range(first, first + count) for path, (used, first, count) in ports.items() if used}

    def with_ports_offset(self) -> Settings:
        """The same settings with `port_offset` added to every port."""
        offset = self.port_offset
        server, minio, dask = self.server, self.minio, self.dask
        return self.model_copy(
            update={
                "port_offset": 0,
                "server": server.model_copy(update={"port": server.port + offset}),
                "minio": minio.model_copy(
                    update={"api_port": minio.api_port + offset, "console_port": minio.console_port + offset}
                ),
                "dask": dask.model_copy(
                    update={
                        "dashboard_port": dask.dashboard_port + offset,
                        "scheduler_port": dask.scheduler_port + offset,
                        "worker_port": dask.worker_port + offset,
                    }
                ),
            }
        )


def _shifted(ports: range, offset: int) -> range:
    return range(ports.start + offset, ports.stop + offset)


def requirement_lines(file: Path) -> tuple[str, ...]:
    """The requirements that a pip requirements file lists, comments and blank lines left out."""
    if not file.is_file():
        return ()
    lines = (line.partition(" #")[0].strip() for line in file.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def load() -> Settings:
    """Read and check the settings of the current stack.

    Raises:
        SettingsError: something in the stack's YAML cannot work; lists every problem found.
    """
    config = pulumi.Config(NAMESPACE)
    values = {key: config.get_object(key) for key in Settings.model_fields}
    values |= {key: config.get(key) for key in _given_keys() if key not in values}
    _refuse_plain_secrets(values)
    # Pulumi.yaml declares every key with an empty default, so an empty one is as good as none.
    given = {key: value for key, value in values.items() if value not in (None, {})}
    host = given.get("host", {})
    if "DOCKER_HOST" in os.environ and isinstance(host, Mapping) and not host.get("address"):
        given["host"] = {**host, "address": os.environ["DOCKER_HOST"]}
    return parse(given, pulumi.get_stack())


def _given_keys() -> list[str]:
    """The names of all keys in the stack's YAML; `pulumi.Config` tells only of those that one asks for."""
    given = {**get_config_env(), **CONFIG.get()}
    return sorted(key.partition(":")[2] for key in given if key.startswith(f"{NAMESPACE}:"))


def parse(values: Mapping[str, object], stack: str) -> Settings:
    """Settings from plain values, as `load` reads them from the YAML of the stack.

    Raises:
        SettingsError: as `load`.
    """
    file = f"Pulumi.{stack}.yaml"
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{_path(item['loc'])}{line}"
            for item in error.errors(include_url=False, include_input=False)
            for line in _message(item["type"], item["msg"]).splitlines()
        ]
        raise SettingsError("\n".join([f"{file} can't be used:", *(f"  - {p}" for p in problems)])) from None
    longest = max((len(name) for name in [*settings.all_workers(), *settings.hosts]), default=0)
    if len(f"{NAMESPACE}-{stack}") + LONGEST_SUFFIX + longest > HOST_NAME_MAX:
        raise SettingsError(
            f"the stack's name {stack!r} with the longest name of a worker or host gives host names over "
            f"{HOST_NAME_MAX} characters, which Docker refuses. Use a shorter name for either"
        )
    return settings.with_ports_offset()


def _path(location: tuple[int | str, ...]) -> str:
    path = ".".join(str(part) for part in location if part != "[key]")
    return f"{path}: " if path else ""


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting; it would be ignored. Remove it, or look for its name in docs/settings.md"
    return re.sub(r"^Value error, ", "", message)


def _refuse_plain_secrets(values: Mapping[str, object]) -> None:
    for path in SECRETS:
        section, *keys = path.split(".")
        value = values.get(section)
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value and not is_config_secret(f"{NAMESPACE}:{section}"):
            raise SettingsError(
                f"{path}: it is in plain text, readable by everyone who can read the repository. "
                f"Set it with\n  pulumi config set --secret --path '{NAMESPACE}:{path}'"
            )
