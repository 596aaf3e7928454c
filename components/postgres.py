"""Postgres: Prefect's database, reachable by the Prefect server only, and Authelia's where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi
import pulumi_docker as docker

from components.images import Images
from components.naming import qualified
from components.networks import Network, Networks
from components.service import ServiceArgs, container, data_volume, kept_secret, served_by
from providers.connection import EngineConnection
from providers.generated_secret import GeneratedSecret, GeneratedSecretArgs
from providers.postgres.role import Role, RoleArgs
from settings import Settings

PORT: Final = 5432
DATA: Final = "/var/lib/postgresql/data"
START: Final = Path(__file__).with_name("start_postgres.sh")
STARTED: Final = f"/usr/local/bin/{START.name}"
AUTHELIA: Final = "authelia"
"""Authelia's database, and the role that owns it."""
OBSERVER: Final = "observer"
"""The role that sees what goes on, and no data."""
ARCHIVER: Final = "archiver"
"""The role that reads the write-ahead log and the files of all databases, and may change nothing."""


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
    role: Sequence[Role] = ()
    """Until it is made, the server is let in by nobody: what waits for the server is made after it."""


@dataclass(frozen=True)
class PostgresArgs:
    """What a Postgres needs."""

    settings: Settings
    images: Images
    networks: Networks
    engine: EngineConnection
    """Of the host that it runs on."""


class Postgres(pulumi.ComponentResource):
    """A Postgres server with its data volume. Its container holds no password, so that a new one replaces nothing."""

    container: docker.Container
    volume: docker.Volume
    database: Database
    authelia: Database | None
    """Authelia's own database."""
    observer: Database | None
    """How metrics are asked for: as a role of its own, which may read no table."""
    archiver: Database | None
    """How the write-ahead log is read for backups."""

    def __init__(self, name: str, args: PostgresArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Postgres", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, rotation = args.settings.postgres, args.settings.rotation
        terms = {
            "images.source": args.images.settings.source.value,
            "Postgres major version": args.images.settings.postgres_major,
            "path": DATA,
        }
        self.volume = data_volume(f"{name}-data", terms, child)
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.postgres.image_id,
                networks=[args.networks.database],
                alias=name,
                memory_mb=settings.memory_mb,
                memory_setting="postgres.memory_mb",
                entrypoint=[STARTED],
                scripts={STARTED: START.read_text()},
                env={"POSTGRES_USER": settings.user, "POSTGRES_DB": settings.database, "PGDATA": DATA},
                volumes={DATA: self.volume},
                health=["pg_isready", "-q", "-d", settings.database, "-U", settings.user],
                # To own its files, and to become the user postgres.
                capabilities=["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID"],
                stop_seconds=60,
            ),
            child,
        )

        def generated(role: str, generation: int) -> pulumi.Output[str]:
            return GeneratedSecret(f"{name}-{role}-password", GeneratedSecretArgs(version=generation), child).value

        def database(
            user: str,
            password: pulumi.Output[str],
            own: str | None,
            member_of: str | None = None,
            *,
            replicates: bool | None = None,
        ) -> Database:
            # Whose container signs in with it does not wait for this: it is set in a moment, and all start at once.
            role = Role(
                f"{name}-{user}",
                RoleArgs(
                    args.engine,
                    container=qualified(name),
                    admin=settings.user,
                    role=user,
                    password=password,
                    database=own,
                    member_of=member_of,
                    replicates=replicates,
                    # A role can't bear a mark; those in the stack's own Postgres are the stack's.
                    adopt=True,
                ),
                pulumi.ResourceOptions.merge(served_by(self.container), child),
            )
            there = own or settings.database
            networks = [args.networks.database]
            return Database(name, PORT, there, user, password, tls=False, networks=networks, role=[role])

        password = kept_secret(f"{name}-password", settings.password, child, rotation.postgres)
        self.database = database(settings.user, password, settings.database)
        self.authelia = None
        if args.settings.auth.in_postgres:
            self.authelia = database(AUTHELIA, generated(AUTHELIA, rotation.authelia), AUTHELIA)
        self.observer = None
        if args.settings.metrics.on:
            # https://www.postgresql.org/docs/current/predefined-roles.html
            self.observer = database(OBSERVER, generated(OBSERVER, rotation.postgres), None, "pg_monitor")
        self.archiver = None
        if args.settings.backup.point_in_time:
            self.archiver = database(ARCHIVER, generated(ARCHIVER, rotation.postgres), None, replicates=True)
        self.register_outputs({"volume": self.volume.name})
