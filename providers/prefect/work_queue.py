"""A queue of a work pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pulumi

from providers.base import Args, Found, Props, Resource
from providers.connection import PrefectConnection, plain
from providers.prefect.server import PrefectProvider, marked, name_rule, unless_missing, unmarked

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@dataclass(frozen=True)
class WorkQueueArgs(Args[PrefectConnection]):
    """What a work queue is."""

    pool: pulumi.Input[str]
    """The pool it belongs to: the output of the WorkPool, which gives the order."""
    queue: str
    """Its name; another name or pool is another queue. `default` is made and removed with its pool."""
    priority: int | None = None
    """1 is the highest; default: Prefect's choice, below those that the pool has, and left alone then."""
    concurrency_limit: int | None = None
    """Most flow runs at once; default: no limit."""
    description: str | None = None
    """Shown in the UI, above the stack's mark."""


class WorkQueueProvider(PrefectProvider[WorkQueueArgs]):
    """Queues are marked in their description. A deployment that names one makes it: then content decides."""

    args_type = WorkQueueArgs
    kind = "work queue"
    identity = ("pool", "queue")
    rules: ClassVar = {
        "pool": name_rule,
        "queue": name_rule,
        "priority": lambda value: None if value >= 1 else "must be 1 (the highest) or more",
    }

    def find(self, client: SyncPrefectClient, args: WorkQueueArgs) -> Found | None:
        queue = unless_missing(lambda: client.read_work_queue_by_name(args.queue, plain(args.pool)))
        if queue is None:
            return None
        description, owner = unmarked(queue.description)
        values: Props = {"description": description, "concurrency_limit": queue.concurrency_limit}
        if args.priority is not None:
            values["priority"] = queue.priority
        return Found(values, owner)

    def make(self, client: SyncPrefectClient, args: WorkQueueArgs) -> Props:
        client.create_work_queue(
            args.queue,
            description=marked(args.description, args.owner),
            concurrency_limit=args.concurrency_limit,
            priority=args.priority,
            work_pool_name=plain(args.pool),
        )
        return {}

    def change(self, client: SyncPrefectClient, args: WorkQueueArgs, _found: Found) -> Props:
        queue = client.read_work_queue_by_name(args.queue, plain(args.pool))
        settings: Props = {
            "description": marked(args.description, args.owner),
            "concurrency_limit": args.concurrency_limit,
        }
        if args.priority is not None:
            settings["priority"] = args.priority
        client.update_work_queue(queue.id, **settings)
        return {}

    def remove(self, client: SyncPrefectClient, args: WorkQueueArgs, _found: Found) -> None:
        queue = client.read_work_queue_by_name(args.queue, plain(args.pool))
        client.delete_work_queue_by_id(queue.id)


class WorkQueue(Resource, module="prefect", name="WorkQueue"):
    """A queue of a work pool; create is refused where a foreign one exists, unless `adopt`."""

    pool: pulumi.Output[str]
    queue: pulumi.Output[str]

    def __init__(self, name: str, args: WorkQueueArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(WorkQueueProvider(), name, args, opts)
