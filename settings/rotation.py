"""Rotation: which generation of each generated credential the stack uses."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from settings.model import Model

Generation = Annotated[int, Field(ge=1)]


class RotationSettings(Model):
    """A number for each generated credential: another one makes a new credential; `scripts/rotate` raises them."""

    postgres: Generation = Field(1, description="the password of Prefect's role in Postgres")
    minio_root: Generation = Field(1, description="the password of MinIO's administrator")
    minio_key: Generation = Field(
        1, description="the access key that flows use, and its user's password; the former key stays valid"
    )
    api: Generation = Field(1, description="the credential of Prefect's API; the former one stays valid")
    authelia: Generation = Field(
        1, description="Authelia's session and link secrets, and the password of its database; everybody logs in anew"
    )
