"""Postgres: Prefect's database, reachable by the Prefect server only, and Authelia's where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_docker as docker

from components.images import Images
from components.networks import Network, Networks
from components.service import SecretFile, ServiceArgs, container, data_volume, kept_secret
from providers.generated_secret import GeneratedSecret, GeneratedSecretArgs
from settings import PostgresSettings

PORT: Final = 5432
DATA: Final = "/var/lib/postgresql/data"
START: Final = "/usr/local/bin/start-postgres"
AUTHELIA: Final = "authelia"
"""Authelia's database, and the role that owns it; `start_postgres.sh` has the name, too."""


@dataclass(frozen=True)
class Database:
    """How a server reaches its database."""

    host: str
    port: int
    database: str
    user: str
    password: pulumi.Output[str]
    tls: bool
    """Encrypted, and the certificate checked."""
    networks: Sequence[Network]
    """What the server joins for it."""


@dataclass(frozen=True)
class PostgresArgs:
    """What a Postgres needs."""

    settings: PostgresSettings
    images: Images
    networks: Networks
    authelia: bool = False
    """Whether Authelia has a database in it."""


class Postgres(pulumi.ComponentResource):
    """A Postgres server with its data volume."""

    container: docker.Container
    volume: docker.Volume
    database: Database
    authelia: Database | None
    """Authelia's own database."""

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Postgres", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings
        terms = {
            "images.source": args.images.settings.source.value,
            "Postgres major version": args.images.settings.postgres_major,
            "path": DATA,
        }
        self.volume = data_volume(f"{name}-data", terms, child)
        password = kept_secret(f"{name}-password", settings.password, child)
        secret_files = [SecretFile("postgres-password", password)]
        self.authelia = None
        if args.authelia:
            own = GeneratedSecret(f"{name}-authelia-password", GeneratedSecretArgs(), child).value
            secret_files.append(SecretFile("authelia-password", own))
            self.authelia = Database(name, PORT, AUTHELIA, AUTHELIA, own, tls=False, networks=[args.networks.database])
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.postgres.image_id,
                networks=[args.networks.database],
                alias=name,
                memory_mb=settings.memory_mb,
                memory_setting="postgres.memory_mb",
                entrypoint=[START],
                env={"POSTGRES_USER": settings.user, "POSTGRES_DB": settings.database, "PGDATA": DATA},
                volumes={DATA: self.volume},
                scripts={START: Path(__file__).with_name("start_postgres.sh").read_text()},
                secret_files=secret_files,
                health=["pg_isready", "-q", "-d", settings.database, "-U", settings.user],
                # To own its files, and to become the user postgres.
                capabilities=["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID"],
                stop_seconds=60,
            ),
            child,
        )
        self.database = Database(
            name, PORT, settings.database, settings.user, password, tls=False, networks=[args.networks.database]
        )
        self.register_outputs({"volume": self.volume.name})
