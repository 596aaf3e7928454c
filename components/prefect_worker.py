"""Prefect workers: a work pool, its queues, and the processes that serve them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi

from components.prefect_server import PrefectServer
from components.service import ServiceArgs, container, http_health
from components.site import Site
from components.watch import HEARTBEAT_SECONDS
from providers.prefect.work_pool import WorkPool, WorkPoolArgs
from providers.prefect.work_queue import WorkQueue, WorkQueueArgs
from settings import WorkerSettings

# Prefect makes this queue with every pool.
DEFAULT_QUEUE: Final = "default"
HEALTH_PORT: Final = 8080
RUN_MB: Final = 160
"""What a flow run takes that imports Prefect, Dask and s3fs, and holds little."""
# After the drain, time to tell the API and to end.
LAST_WORDS_SECONDS: Final = 15


@dataclass(frozen=True)
class PrefectWorkerArgs:
    """What a worker needs."""

    settings: WorkerSettings
    site: Site
    server: PrefectServer
    client_env: Mapping[str, pulumi.Input[str]]
    running: bool = True
    """False: the pool and its queues alone, with nothing that serves them."""


class PrefectWorker(pulumi.ComponentResource):
    """A work pool with its queues, and the containers that serve them."""

    pool_name: str
    queues: Mapping[str, pulumi.Resource]
    """Queue to the resource that a deployment on it depends on."""

    def __init__(self, name: str, args: PrefectWorkerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:PrefectWorker", name, None, opts)
        settings = args.settings
        in_prefect = pulumi.ResourceOptions.merge(args.server.inside, pulumi.ResourceOptions(parent=self))
        self.pool_name = settings.pool
        pool = WorkPool(
            settings.pool, WorkPoolArgs(args.server.connection, pool=settings.pool, pool_type=settings.type), in_prefect
        )
        self.queues = {
            queue: pool
            if queue == DEFAULT_QUEUE
            else WorkQueue(
                f"{settings.pool}-{queue}",
                WorkQueueArgs(args.server.connection, pool=pool.pool, queue=queue),
                in_prefect,
            )
            for queue in settings.queues
        }
        for number in range(1, settings.replicas + 1 if args.running else 1):
            container(
                f"prefect-worker-{name}-{number}",
                ServiceArgs(
                    image=args.site.images.worker_with(name, settings.requirements).image_id,
                    networks=args.site.flow_networks,
                    memory_mb=settings.memory_mb,
                    memory_setting=f"workers.{name}.memory_mb",
                    # The pool is the stack's to make; until it is there the worker waits.
                    command=[
                        *("prefect-worker", "--type", settings.type, "--pool", settings.pool),
                        *("--name", f"{name}-{number}", "--no-create-pool-if-not-found", "--with-healthcheck"),
                        # All that has queued up during an outage would start at once, and end the worker each time.
                        *("--limit", str(max(1, settings.memory_mb // RUN_MB))),
                        *(word for queue in settings.queues for word in ("--work-queue", queue)),
                    ],
                    env={
                        **args.client_env,
                        "DRAIN_SECONDS": str(settings.drain_seconds),
                        # A new pool, a late run and a worker gone offline are noticed within seconds.
                        "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
                        "PREFECT_WORKER_QUERY_SECONDS": "5",
                        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
                        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
                        "PREFECT_WORKER_WEBSERVER_PORT": str(HEALTH_PORT),
                    },
                    health=http_health(HEALTH_PORT, "/health"),
                    stop_seconds=settings.drain_seconds + LAST_WORDS_SECONDS,
                ),
                args.site.placed(self),
            )
        self.register_outputs({"pool": settings.pool})
