"""Backup: a container that saves the database and the bucket every day, encrypted, and fetches them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from components.external_postgres import ExternalPostgres
from components.flow_storage import FlowStorage
from components.images import Images
from components.networks import Network
from components.postgres import Database, Postgres
from components.prefect_client import CA_BUNDLE
from components.service import SecretFile, ServiceArgs, container, data_volume, kept_secret
from outputs import Outputs
from settings import BackupS3Settings, BackupSettings

WORK: Final = "/var/lib/backup"
"""A copy of the bucket, which makes the next backup short; what is to be saved of the stack itself."""
TARGET: Final = "/target"


@dataclass(frozen=True)
class BackupArgs:
    """What there is to back up, and where to."""

    settings: BackupSettings
    images: Images
    network: Network
    """Where the S3 store is; leads out to a target elsewhere, too."""
    postgres: Postgres | ExternalPostgres | None
    storage: FlowStorage | None


class Backup(pulumi.ComponentResource):
    """A container with Postgres' tools, rclone and restic; `images/backup/backup` is what it does."""

    container: docker.Container
    work: docker.Volume
    """What is mounted at WORK; its marks `attempt`, `succeeded`, `failed` and `archived` tell how it goes."""
    outputs: Outputs

    def __init__(self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Backup", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, postgres, storage = args.settings, args.postgres, args.storage
        database, archiver = (postgres.database, postgres.archiver) if postgres else (None, None)
        password = kept_secret(f"{name}-password", settings.password, child)
        # Read by those names.
        secrets = {"password": password}
        env: dict[str, pulumi.Input[str]] = {
            "BACKUP_SCHEDULE": settings.schedule,
            "KEEP_DAILY": str(settings.keep.daily),
            "KEEP_WEEKLY": str(settings.keep.weekly),
            "KEEP_MONTHLY": str(settings.keep.monthly),
            "RESTIC_REPOSITORY": _s3_url(settings.s3) if settings.s3 else TARGET,
            "BACKUP_TARGET": _s3_url(settings.s3) if settings.s3 else str(settings.directory),
        }
        if settings.s3:
            env |= {"AWS_ACCESS_KEY_ID": settings.s3.access_key, "AWS_DEFAULT_REGION": settings.s3.region}
            secrets["target-secret-key"] = pulumi.Output.secret(settings.s3.secret_key.get_secret_value())
        if database:
            env |= _database_env(database)
            secrets["database-password"] = database.password
        if archiver:
            env["ARCHIVER"] = archiver.user
            secrets["archiver-password"] = archiver.password
        if storage:
            env |= _store_env(storage)
            secrets["store-secret-key"] = pulumi.Output.from_input(storage.key.secret)
        self.work = data_volume(f"{name}-work", {"path": WORK}, child)
        self.container = container(
            name,
            ServiceArgs(
                image=args.images.backup().image_id,
                networks=[args.network, *(database.networks if database else [])],
                memory_mb=settings.memory_mb,
                memory_setting="backup.memory_mb",
                env=env,
                volumes={WORK: self.work},
                directories={TARGET: settings.directory.as_posix()} if settings.directory else {},
                secret_files=[SecretFile(f"{name}-{what}", secret) for what, secret in secrets.items()],
                # Unhealthy is the one whose last backup failed.
                health=["test", "!", "-e", f"{WORK}/failed"],
                # To recover by a Postgres of its own, which does not run as root.
                capabilities=["CAP_SETGID", "CAP_SETUID"] if archiver else [],
            ),
            child,
        )
        self.outputs = {"backup_password": password}
        self.register_outputs({})


def _s3_url(target: BackupS3Settings) -> str:
    """As restic takes it (https://restic.readthedocs.io/en/stable/030_preparing_a_new_repo.html#s3-compatible-storage)."""
    return "s3:" + "/".join(filter(None, [target.endpoint, target.bucket, target.prefix]))


def _database_env(database: Database) -> dict[str, pulumi.Input[str]]:
    """https://www.postgresql.org/docs/current/libpq-envars.html."""
    tls = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": CA_BUNDLE} if database.tls else {}
    return {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGDATABASE": database.database,
        "PGUSER": database.user,
        "PGCONNECT_TIMEOUT": "10",
        **tls,
    }


def _store_env(storage: FlowStorage) -> dict[str, pulumi.Input[str]]:
    """https://rclone.org/docs/#environment-variables: the remote `store`."""
    return {
        "BUCKET": storage.bucket,
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENDPOINT": storage.endpoint,
        "RCLONE_CONFIG_STORE_REGION": storage.connection.get("region", "us-east-1"),
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": storage.key.id,
        # The key may not look for buckets.
        "RCLONE_CONFIG_STORE_NO_CHECK_BUCKET": "true",
    }
