"""Dask: a scheduler and its workers, on the image of the Prefect worker that uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from components.image import Image
from components.networks import Network
from components.service import ServiceArgs, container, http_health
from settings import DaskSettings

SCHEDULER: Final = "scheduler"
SCHEDULER_PORT: Final = 8786
DASHBOARD_PORT: Final = 8787
WORKER_DASHBOARD_PORT: Final = 8788


@dataclass(frozen=True)
class DaskArgs:
    """What a Dask cluster needs."""

    settings: DaskSettings
    image: Image
    network: Network
    scheduler_host: str
    client_env: Mapping[str, str]


class Dask(pulumi.ComponentResource):
    """A Dask cluster: tasks of flows that use a DaskTaskRunner run on its workers."""

    scheduler: docker.Container
    dashboard_url: str

    def __init__(self, name: str, args: DaskArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Dask", name, None, opts)
        settings = args.settings
        child = pulumi.ResourceOptions(parent=self)
        self.dashboard_url = f"http://127.0.0.1:{settings.dashboard_port}"
        self.scheduler = container(
            "dask-scheduler",
            ServiceArgs(
                image=args.image.image_id,
                networks=[args.network],
                alias=SCHEDULER,
                memory_mb=settings.memory_mb,
                memory_setting="dask.memory_mb",
                command=[
                    *("dask", "scheduler", "--host", "0.0.0.0", "--port", str(SCHEDULER_PORT)),  # noqa: S104  (in its container)
                    *("--dashboard-address", f":{DASHBOARD_PORT}"),
                ],
                env=args.client_env,
                ports={settings.dashboard_port: DASHBOARD_PORT},
                health=http_health(DASHBOARD_PORT, "/health"),
            ),
            child,
        )
        for number in range(1, settings.workers + 1):
            container(
                f"dask-worker-{number}",
                ServiceArgs(
                    image=args.image.image_id,
                    networks=[args.network],
                    memory_mb=settings.memory_mb,
                    memory_setting="dask.memory_mb",
                    # It waits for the scheduler by itself.
                    command=[
                        *("dask", "worker", f"tcp://{args.scheduler_host}:{SCHEDULER_PORT}"),
                        *("--nthreads", str(settings.threads), "--death-timeout", "3600"),
                        # Named, so that a change of it makes a new worker: Dask reads it once, at the start.
                        *("--memory-limit", f"{settings.memory_mb}MiB"),
                        *("--dashboard-address", f":{WORKER_DASHBOARD_PORT}"),
                    ],
                    env=args.client_env,
                    health=http_health(WORKER_DASHBOARD_PORT, "/health"),
                ),
                child,
            )
        self.register_outputs({"dashboard_url": self.dashboard_url})
