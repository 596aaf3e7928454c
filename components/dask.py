"""Dask: a scheduler and its workers, on the image of the Prefect worker that uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_docker as docker

from components.service import Port, ServiceArgs, container, http_health
from components.site import Site
from settings import DaskSettings

SCHEDULER: Final = "dask-scheduler"
ALIAS: Final = "scheduler"
PORT: Final = 8786
DASHBOARD_PORT: Final = 8787
WORKER_DASHBOARD_PORT: Final = 8788
WORKER_PORT: Final = 8789


@dataclass(frozen=True)
class DaskArgs:
    """What a Dask cluster needs."""

    settings: DaskSettings
    requirements: Sequence[str]
    """Packages of the worker whose image it runs."""
    sites: Mapping[str | None, Site]
    """The hosts by name; the scheduler is on the first, None."""
    workers: Mapping[str | None, int]
    """How many run on which host."""
    scheduler: str | None
    """`host:port` where the workers find the scheduler."""
    client_env: Mapping[str, pulumi.Input[str]]
    """For the workers. The scheduler runs no task, and its end is that of all flow runs with tasks: it is told nothing
    that may change."""


class Dask(pulumi.ComponentResource):
    """A Dask cluster: tasks of flows that use a DaskTaskRunner run on its workers."""

    scheduler: docker.Container
    dashboard_url: str

    def __init__(self, name: str, args: DaskArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:Dask", name, None, opts)
        settings, first = args.settings, args.sites[None]
        self._args = args
        self.dashboard_url = f"http://127.0.0.1:{settings.dashboard_port}"
        address = first.host.private_address
        self.scheduler = self._container(
            SCHEDULER,
            first,
            DASHBOARD_PORT,
            [
                *("dask", "scheduler", "--host", "0.0.0.0", "--port", str(PORT)),  # noqa: S104  (in its container)
                *("--dashboard-address", f":{DASHBOARD_PORT}"),
            ],
            ports=[
                Port(settings.dashboard_port, DASHBOARD_PORT),
                *([Port(settings.scheduler_port, PORT, address)] if address else []),
            ],
            alias=ALIAS,
        )
        for host, count in args.workers.items():
            for number in range(1, count + 1):
                self._worker(args.sites[host], number)
        self.register_outputs({"dashboard_url": self.dashboard_url})

    def _worker(self, site: Site, number: int) -> None:
        settings, address = self._args.settings, site.host.private_address
        port = Port(settings.worker_port + number - 1, WORKER_PORT, address) if address else None
        self._container(
            f"dask-worker-{site.name}-{number}" if site.name else f"dask-worker-{number}",
            site,
            WORKER_DASHBOARD_PORT,
            # It waits for the scheduler by itself.
            [
                *("dask", "worker", f"tcp://{self._args.scheduler}"),
                *("--nthreads", str(settings.threads), "--death-timeout", "3600"),
                # Named, so that a change of it makes a new worker: Dask reads it once, at the start.
                *("--memory-limit", f"{settings.memory_mb}MiB"),
                *("--dashboard-address", f":{WORKER_DASHBOARD_PORT}"),
                # Among hosts, only what is published is reached: by the scheduler, and by other workers for results.
                *(("--listen-address", f"tcp://0.0.0.0:{WORKER_PORT}") if port else ()),
                *(("--contact-address", f"tcp://{port.ip}:{port.outside}") if port else ()),
            ],
            ports=[port] if port else [],
            env=self._args.client_env,
        )

    def _container(
        self,
        name: str,
        site: Site,
        dashboard_port: int,
        command: Sequence[str],
        *,
        ports: Sequence[Port],
        alias: str | None = None,
        env: Mapping[str, pulumi.Input[str]] | None = None,
    ) -> docker.Container:
        args = self._args
        return container(
            name,
            ServiceArgs(
                image=site.images.worker_with(args.settings.image_of, args.requirements).image_id,
                networks=[site.dask_network],
                alias=alias,
                memory_mb=args.settings.memory_mb,
                memory_setting="dask.memory_mb",
                command=command,
                env=env or {},
                ports=ports,
                health=http_health(dashboard_port, "/health"),
            ),
            site.placed(self),
        )
