"""What all settings share: the model, its error, and kinds of values."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

import pulumi
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAMESPACE: Final = "prefect-environment"
PORT_MAX: Final = 65535
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$")]
"""A name that is at once a Docker, Prefect and S3 key part: lower case, digits and dashes, at most 30 characters."""
MemoryMb = Annotated[int, Field(ge=64, description="memory limit of one container, in MiB")]


class SettingsError(pulumi.RunError):
    """A setting that cannot work; the text names its path, the consequence and the fix. Shown without a traceback."""


class Model(BaseModel):
    """What all settings share: immutable, and a misspelt key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def url_of(text: str) -> SplitResult:
    """Parse a URL; ValueError says what is wrong with one, its port included."""
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        raise ValueError(f"{text} is no URL: {error}") from None
    return url


def seen_by_containers(host: str) -> None:
    """Refuse, by a ValueError, a host's name or address that leads each container to itself."""
    if host in LOOPBACK:
        raise ValueError(
            f"{host} is each container's own loopback, where nothing answers. Give an address that containers reach"
        )


def s3_endpoint(endpoint: str) -> str:
    """Return an S3 API's base URL without a slash at the end; ValueError where containers could not use it."""
    url = url_of(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.path.strip("/") or url.query:
        raise ValueError(f"{endpoint} is no endpoint. Write https://host or https://host:port, and no more")
    seen_by_containers(url.hostname)
    return endpoint.rstrip("/")
