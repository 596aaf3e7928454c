"""Backup: where to, when, and for how long."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from settings.model import MemoryMb, Model, s3_endpoint


class BackupMode(StrEnum):
    """Whether the stack backs itself up."""

    NONE = "none"
    MANAGED = "managed"


class BackupS3Settings(Model):
    """A bucket that backups go to; it exists, in another store than the one that is backed up."""

    endpoint: str = Field(description="URL of its S3 API, as containers on the first host reach it")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{2,62}$", description="the bucket; it exists")
    prefix: str = Field("", pattern=r"^([\w.-]+(/[\w.-]+)*)?$", description="where in it; default: at its top")
    region: str = Field("us-east-1", description="the bucket's region")
    access_key: str = Field(description="id of a key that may list, read, write and delete there")
    secret_key: SecretStr = Field(description="the key's secret")

    @field_validator("endpoint")
    @classmethod
    def _is_a_base_url(cls, endpoint: str) -> str:
        return s3_endpoint(endpoint)


class KeepSettings(Model):
    """Which backups stay: the last one of each of so many days, weeks and months; one by hand for so many days."""

    daily: int = Field(7, ge=1, description="days of which the last backup stays")
    weekly: int = Field(4, ge=0, description="weeks of which the last backup stays")
    monthly: int = Field(12, ge=0, description="months of which the last backup stays")


class BackupSettings(Model):
    """A container that backs the stack up every day, encrypted, to a directory or an S3 store."""

    mode: BackupMode = Field(
        BackupMode.NONE, description="`managed`: a container of the stack does it; see [backup](backup.md)"
    )
    directory: PurePosixPath | None = Field(
        None, description="directory on the Docker host that backups go to; it is root's, best on another disk"
    )
    s3: BackupS3Settings | None = Field(None, description="the bucket that backups go to, instead of a directory")
    schedule: str = Field(
        "02:30", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="when, every day: HH:MM in UTC, in quotes"
    )
    keep: KeepSettings = KeepSettings()
    point_in_time: bool = Field(
        False,
        description="keep what happens in Postgres, too, minute by minute: the database comes back as it was at any "
        "moment of the last `keep.daily` days",
    )
    password: SecretStr | None = Field(
        None,
        min_length=8,
        description="what backups are encrypted with; default: generated and kept in state. Without it they are "
        "worth nothing: keep a copy elsewhere",
    )
    memory_mb: MemoryMb = 512

    @property
    def on(self) -> bool:
        """Whether there are backups at all."""
        return self.mode is BackupMode.MANAGED

    @field_validator("directory")
    @classmethod
    def _is_whole(cls, directory: PurePosixPath | None) -> PurePosixPath | None:
        if directory and not directory.is_absolute():
            raise ValueError(f"{directory} is a path on the Docker host, and must begin with /. Give the whole path")
        return directory

    @model_validator(mode="after")
    def _has_one_target(self) -> Self:
        if self.point_in_time and not self.on:
            raise ValueError("point_in_time: with mode none nothing is kept. Set mode: managed, or remove it")
        if self.on and (self.directory is None) == (self.s3 is None):
            raise ValueError("directory, s3: backups go to one of them. Give either the one or the other")
        return self
