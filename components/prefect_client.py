"""What every Prefect process of the stack is told: where the API, the results and Dask are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from components import dask, minio, prefect_gateway
from components.networks import Networks
from settings import Settings

CA_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
"""In our images: the public authorities and those of images.ca_bundle."""


@dataclass(frozen=True)
class Addresses:
    """Where what runs flows finds the servers, the same for all hosts.

    One set, since a task takes its flow run's API URL along to its Dask worker, and a block is one document.
    """

    prefect: str
    """`host:port` of the API."""
    dask: str | None
    """`host:port` of the scheduler, or the URL of one elsewhere."""
    s3: str
    """URL of the S3 API."""


def addresses(settings: Settings, networks: Networks) -> Addresses:
    """Return the addresses: names on the networks, or the first host's private address where there are more hosts."""
    shared, external = settings.shared_address, settings.minio.external

    def at(name: str, inside: int, published: int) -> str:
        return f"{shared}:{published}" if shared else f"{name}:{inside}"

    scheduler = at(networks.host(dask.SCHEDULER, dask.ALIAS), dask.PORT, settings.dask.scheduler_port)
    s3 = at(networks.host("minio"), minio.API_PORT, settings.minio.api_port)
    return Addresses(
        prefect=at(networks.host(prefect_gateway.NAME), prefect_gateway.PORT, settings.server.port),
        dask=scheduler if settings.profiles.dask else settings.dask.address,
        s3=external.endpoint if external else f"http://{s3}",
    )


def client_env(settings: Settings, at: Addresses, auth: pulumi.Output[str]) -> dict[str, pulumi.Input[str]]:
    """Environment of a worker, a Dask worker or the CLI box, beside `result_env`.

    `PREFECT_*` are Prefect's own (https://docs.prefect.io/v3/api-ref/settings-ref); flows read
    `DASK_SCHEDULER_ADDRESS` for their DaskTaskRunner; `AWS_CA_BUNDLE` is botocore's.
    """
    return {
        "PREFECT_API_URL": f"http://{at.prefect}/api",
        # Prefect reads it from nowhere else: whoever controls the engine can read it.
        "PREFECT_API_AUTH_STRING": auth,
        # For the links in logs, which people click.
        "PREFECT_UI_URL": settings.ui_url,
        # What the server answers while its database restarts, beside 503.
        "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
        # Two minutes in all, instead of half of one: until a run would be taken for dead.
        "PREFECT_CLIENT_MAX_RETRIES": "7",
        **({"DASK_SCHEDULER_ADDRESS": at.dask} if at.dask else {}),
        # https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html: about a minute in all.
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "10",
        **({"AWS_CA_BUNDLE": CA_BUNDLE} if at.s3.startswith("https:") else {}),
        "DO_NOT_TRACK": "1",
    }


def result_env(result_block: str | None) -> dict[str, str]:
    """Environment that makes a block the place where persisted results go; server and clients agree on it."""
    return {"PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": f"remote-file-system/{result_block}"} if result_block else {}
