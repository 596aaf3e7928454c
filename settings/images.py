"""Images: where they come from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from settings.auth import AuthEndpoint
from settings.model import Model
from settings.versions import version_in

DEBIAN_POSTGRES_MAJOR: Final = "15"
BUILT_AUTHELIA: Final = (4, 37, 5)
FORWARD_AUTH_SINCE: Final = (4, 38)


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
    caddy: str = Field(
        "caddy:2.11.7@sha256:f2a1290d0463aad60660d4ec134943f183ee2a5f6c3eb7bf32dd984f2f020772",
        description="the Caddy image (source registry)",
    )
    authelia: str = Field(
        "authelia/authelia:4.39.28@sha256:bd97cff4fcbf715b5ff1f9ae286afbe6033afce385302520b0368122d43a6f54",
        description="the Authelia image (source registry)",
    )
    prometheus: str = Field(
        "prom/prometheus:v3.5.0@sha256:63805ebb8d2b3920190daf1cb14a60871b16fd38bed42b857a3182bc621f4996",
        description="the Prometheus image (source registry)",
    )
    postgres_exporter: str = Field(
        "prometheuscommunity/postgres-exporter:v0.19.1"
        "@sha256:e96064f876226d94bb6ce48a4c4b3dd76edba91168ec1ab024e5c4b959310b0f",
        description="the image that asks Postgres for Prometheus (source registry)",
    )
    grafana: str = Field(
        "grafana/grafana:12.3.1@sha256:2175aaa91c96733d86d31cf270d5310b278654b03f5718c59de12a865380a31f",
        description="the Grafana image; pulled with either source, since Debian has none to build",
    )
    ca_bundle: Path | None = Field(None, description="PEM file with the CAs that builds and containers trust as well")
    index_url: str | None = Field(None, description="Python package index used by builds; default: PyPI")
    proxy: str | None = Field(None, description="HTTP(S) proxy used by builds")

    @property
    def postgres_major(self) -> str:
        """Major version of Postgres: Debian's with source `build`, else what the reference's tag says."""
        if self.source is ImageSource.BUILD:
            return DEBIAN_POSTGRES_MAJOR
        return str(version_in(self.postgres)[0])

    @property
    def has_grafana(self) -> bool:
        """Whether a host can be expected to have it: named, where nothing else is pulled."""
        return self.source is ImageSource.REGISTRY or "grafana" in self.model_fields_set

    @property
    def authelia_version(self) -> tuple[int, ...]:
        """Version of Authelia: what is built here with source `build`, else what the reference's tag says."""
        return BUILT_AUTHELIA if self.source is ImageSource.BUILD else version_in(self.authelia)

    @property
    def authelia_endpoint(self) -> AuthEndpoint:
        """What Caddy asks the managed Authelia by."""
        return AuthEndpoint.FORWARD_AUTH if self.authelia_version >= FORWARD_AUTH_SINCE else AuthEndpoint.VERIFY

    @field_validator("authelia")
    @classmethod
    def _minor_is_told(cls, reference: str) -> str:
        if len(version_in(reference)) < len(FORWARD_AUTH_SINCE):
            raise ValueError(
                f"{reference} does not say a version, and Authelia's configuration differs from one to the other. "
                "Use a tag that begins with it, such as authelia/authelia:4.39.28"
            )
        return reference

    @field_validator("postgres")
    @classmethod
    def _major_is_told(cls, reference: str) -> str:
        if not version_in(reference):
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
