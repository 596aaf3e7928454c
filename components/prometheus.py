"""Prometheus: asks the stack's servers how they are, and keeps what it was told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from components.image import Image
from components.networks import Network
from components.service import Port, SecretFile, ServiceArgs, container, data_volume, http_health
from settings import MetricsSettings

NAME: Final = "prometheus"
PORT: Final = 9090
CONFIGURATION: Final = "/etc/prometheus/prometheus.yml"
DATA: Final = "/data"
"""Where the images have nothing, so that it is root's, as who runs it."""
EVERY_SECONDS: Final = 15


@dataclass(frozen=True)
class Job:
    """What is asked for metrics."""

    name: str
    targets: Mapping[str, str]
    """What is asked, by the name that the stack has for it, to `host:port` as Prometheus reaches it."""
    path: str = "/metrics"
    user: str | None = None
    """Who signs in with a password; None: nobody, or a bearer of a token."""
    secret: SecretFile | None = None
    """The password or the token."""


def configuration(jobs: Sequence[Job]) -> str:
    """Return prometheus.yml, which holds no secret, as JSON, which is YAML, too.

    https://prometheus.io/docs/prometheus/latest/configuration/configuration/
    """
    told = {
        "global": {"scrape_interval": f"{EVERY_SECONDS}s", "scrape_timeout": f"{EVERY_SECONDS - 5}s"},
        "scrape_configs": [
            {
                "job_name": job.name,
                "metrics_path": job.path,
                "static_configs": [
                    {"targets": [address], "labels": {"instance": instance}}
                    for instance, address in job.targets.items()
                ],
                **_credential(job),
            }
            for job in jobs
        ],
    }
    return json.dumps(told, indent=2) + "\n"


def _credential(job: Job) -> Mapping[str, object]:
    if job.secret is None:
        return {}
    if job.user:
        return {"basic_auth": {"username": job.user, "password_file": job.secret.path}}
    return {"authorization": {"credentials_file": job.secret.path}}


@dataclass(frozen=True)
class PrometheusArgs:
    """What a Prometheus needs."""

    settings: MetricsSettings
    image: Image
    networks: Sequence[Network]
    jobs: Sequence[Job]


class Prometheus(pulumi.ComponentResource):
    """A Prometheus with its data. It asks nobody who they are: who is on its networks may look."""

    container: docker.Container

    def __init__(self, name: str, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Prometheus", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings
        secrets = {job.secret.path: job.secret for job in args.jobs if job.secret}
        self.container = container(
            name,
            ServiceArgs(
                image=args.image.image_id,
                networks=args.networks,
                alias=name,
                memory_mb=settings.memory_mb,
                memory_setting="metrics.memory_mb",
                # https://prometheus.io/docs/prometheus/latest/command-line/prometheus/
                command=[
                    f"--config.file={CONFIGURATION}",
                    f"--storage.tsdb.path={DATA}",
                    f"--storage.tsdb.retention.time={settings.retention_days}d",
                ],
                # Older versions don't see the container's limit, and collect garbage too late.
                env={"GOMEMLIMIT": f"{settings.memory_mb * 9 // 10}MiB"},
                ports=[Port(settings.port, PORT)],
                volumes={DATA: data_volume(f"{name}-data", {"path": DATA}, child)},
                files={CONFIGURATION: configuration(args.jobs)},
                secret_files=list(secrets.values()),
                health=http_health(PORT, "/-/healthy"),
                # It reads what is written again after a crash.
                health_start="3m0s",
                # The official image's user could not read the secrets.
                user="0",
            ),
            child,
        )
        self.register_outputs({})
