"""A work pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pulumi

from providers.base import Args, Found, Props, ProviderError, Resource
from providers.connection import PrefectConnection
from providers.prefect.server import PrefectProvider, marked, name_rule, unless_missing, unmarked

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


@dataclass(frozen=True)
class WorkPoolArgs(Args[PrefectConnection]):
    """What a work pool is (https://docs.prefect.io/v3/concepts/work-pools)."""

    pool: str
    """Its name; another name is another pool."""
    pool_type: str = "process"
    """What runs its flow runs; another type is another pool, which starts with empty queues."""
    description: str | None = None
    """Shown in the UI, above the stack's mark."""
    base_job_template: Mapping[str, object] | None = None
    """Default: Prefect's for the type, which workers fill in; then changes of it are left alone."""
    concurrency_limit: int | None = None
    """Most flow runs at once; default: no limit."""


class WorkPoolProvider(PrefectProvider[WorkPoolArgs]):
    """Pools are marked in their description. Pausing one is the business of whoever uses Prefect."""

    args_type = WorkPoolArgs
    kind = "work pool"
    identity = ("pool", "pool_type")
    rules: ClassVar = {"pool": name_rule}

    def id(self, args: WorkPoolArgs) -> str:
        """Its name is unique, whatever its type."""
        return args.pool

    def find(self, client: SyncPrefectClient, args: WorkPoolArgs) -> Found | None:
        pool = unless_missing(lambda: client.read_work_pool(args.pool))
        if pool is None:
            return None
        description, owner = unmarked(pool.description)
        values: Props = {
            "pool_type": pool.type,
            "description": description,
            "concurrency_limit": pool.concurrency_limit,
        }
        if args.base_job_template is not None:
            values["base_job_template"] = pool.base_job_template
        return Found(values, owner)

    def make(self, client: SyncPrefectClient, args: WorkPoolArgs) -> Props:
        from prefect.client.schemas.actions import WorkPoolCreate

        client.create_work_pool(WorkPoolCreate(name=args.pool, type=args.pool_type, **_settings(args)))
        return {}

    def change(self, client: SyncPrefectClient, args: WorkPoolArgs, found: Found) -> Props:
        from prefect.client.schemas.actions import WorkPoolUpdate

        real = found.values["pool_type"]
        if real != args.pool_type:
            raise ProviderError(
                f"its type is {real!r}, which can't become {args.pool_type!r}; nothing was changed. "
                "Choose another name, or delete it in Prefect."
            )
        client.update_work_pool(args.pool, WorkPoolUpdate(**_settings(args)))
        return {}

    def remove(self, client: SyncPrefectClient, args: WorkPoolArgs, _found: Found) -> None:
        client.delete_work_pool(args.pool)


def _settings(args: WorkPoolArgs) -> Props:
    settings: Props = {
        "description": marked(args.description, args.owner),
        "concurrency_limit": args.concurrency_limit,
    }
    if args.base_job_template is not None:
        settings["base_job_template"] = args.base_job_template
    return settings


class WorkPool(Resource, module="prefect", name="WorkPool"):
    """A work pool; create is refused where a foreign one exists, unless `adopt`."""

    pool: pulumi.Output[str]

    def __init__(self, name: str, args: WorkPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(WorkPoolProvider(), name, args, opts)
