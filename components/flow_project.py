"""A directory of flows: its code in the bucket, and its deployments in Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pulumi

from components.flow_storage import BLOCK_TYPE, FlowStorage
from components.prefect_server import PrefectServer
from components.prefect_worker import PrefectWorker
from providers.minio.object_tree import ObjectTree, ObjectTreeArgs
from providers.prefect.deployment import Deployment, DeploymentArgs, Schedule
from settings import FlowSettings


@dataclass(frozen=True)
class FlowProjectArgs:
    """What a flow project needs."""

    settings: FlowSettings
    server: PrefectServer
    storage: FlowStorage
    worker: PrefectWorker


class FlowProject(pulumi.ComponentResource):
    """The code at `s3://<bucket>/<project>/<content hash>`, the block `<project>-code` on it, and the deployments.

    Each content has a prefix of its own, so that a run which starts during a change never sees half of it.
    """

    deployment_ids: dict[str, pulumi.Output[str]]
    """`<flow>/<deployment>` to Prefect's id."""

    def __init__(self, name: str, args: FlowProjectArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("prefect-environment:index:FlowProject", name, None, opts)
        source = args.settings.path.as_posix()
        queue = args.settings.queue or next(iter(args.worker.queues))
        code = ObjectTree(
            f"{name}-code",
            ObjectTreeArgs(args.storage.connection, bucket=args.storage.bucket, prefix=name, source=source),
            pulumi.ResourceOptions.merge(args.storage.inside, pulumi.ResourceOptions(parent=self)),
        )
        block = args.storage.block(
            f"{name}-code",
            args.server,
            pulumi.Output.concat(args.storage.bucket, "/", code.object_prefix),
            pulumi.ResourceOptions(parent=self, depends_on=[code]),
        )
        pull = {"id": "pull_code", "block_type_slug": BLOCK_TYPE, "block_document_name": f"{name}-code"}
        self.deployment_ids = {}
        for label, item in args.settings.deployments.items():
            deployment = Deployment(
                f"{item.flow_name}-{label}",
                DeploymentArgs(
                    args.server.connection,
                    flow=item.flow_name,
                    deployment=label,
                    entrypoint=item.entrypoint,
                    pull_steps=[{"prefect.deployments.steps.pull_with_block": pull}],
                    pool=args.worker.pool_name,
                    queue=queue,
                    parameters=item.parameters,
                    schedules=[cast("Schedule", each.model_dump(exclude_none=True)) for each in item.schedules],
                    tags=item.tags,
                    description=item.description,
                    concurrency_limit=item.concurrency_limit,
                    source=source,
                    content_hash=code.content_hash,
                ),
                pulumi.ResourceOptions.merge(
                    args.server.inside,
                    pulumi.ResourceOptions(parent=self, depends_on=[block, args.worker.queues[queue]]),
                ),
            )
            self.deployment_ids[f"{item.flow_name}/{label}"] = deployment.deployment_id
        self.register_outputs({"deployments": self.deployment_ids})
