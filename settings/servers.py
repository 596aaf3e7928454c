"""Networks, and the servers on them: Postgres, Prefect, the S3 store, Dask."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from settings.model import PORT_MAX, MemoryMb, Model, Name, s3_endpoint, seen_by_containers

API_USER: Final = "admin"
"""Whom Prefect's basic auth knows; it has one user, and no rights."""


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
        seen_by_containers(host)
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
    password: SecretStr | None = Field(
        None,
        min_length=8,
        description=f"what the API and the UI ask for, of the user `{API_USER}`; default: generated and kept in state",
    )
    ui_api_url: str | None = Field(
        None,
        description="URL of the API where the UI is not on the same host, and where links in logs lead to; default: "
        "the UI asks where it came from, and links lead to the proxy, else to the published port",
    )
    flow_run_retention_days: int | None = Field(
        90, ge=1, description="finished flow runs older than this are deleted; null keeps them for ever"
    )
    event_retention_days: int = Field(7, ge=1, description="events older than this are deleted")
    memory_mb: MemoryMb = 1024

    @field_validator("password")
    @classmethod
    def _is_ascii(cls, password: SecretStr | None) -> SecretStr | None:
        if password and not re.fullmatch(r"[!-~]+", password.get_secret_value()):
            raise ValueError("it has blanks or letters that not every client sends alike. Use ASCII without blanks")
        return password

    @property
    def url(self) -> str:
        """The server as published on its host."""
        return f"http://127.0.0.1:{self.port}"


class ExternalMinioSettings(Model):
    """An S3 store that is there already, with a bucket (`minio.bucket`) and a key that may read and write it."""

    endpoint: str = Field(description="URL of its S3 API, as containers and the machine that Pulumi runs on reach it")
    region: str = Field("us-east-1", description="region of the bucket; MinIO's is the default")
    access_key: str = Field(description="id of the key")
    secret_key: SecretStr = Field(description="the key's secret")

    @field_validator("endpoint")
    @classmethod
    def _is_a_base_url(cls, endpoint: str) -> str:
        return s3_endpoint(endpoint)


class MinioSettings(ServedSettings):
    """The S3 store, its bucket and the user that flows use."""

    external: ExternalMinioSettings | None = Field(None, description="with mode external: where it is")
    api_port: int = Field(9000, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    console_port: int = Field(9001, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    server_url: str | None = Field(
        None,
        description="MINIO_SERVER_URL: URL of the S3 API for the console, as containers reach it; default: none",
    )
    browser_redirect_url: str | None = Field(
        None, description="MINIO_BROWSER_REDIRECT_URL: public URL of the console; default: the proxy's"
    )
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
