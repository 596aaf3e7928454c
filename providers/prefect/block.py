"""A block: named, typed configuration that flows load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pulumi

from providers.base import Args, Found, Props, ProviderError, Resource, matching
from providers.connection import PrefectConnection, plain
from providers.prefect.server import PrefectProvider, unless_missing

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient


@dataclass(frozen=True)
class BlockArgs(Args[PrefectConnection]):
    """What a block is (https://docs.prefect.io/v3/concepts/blocks)."""

    block_type: str
    """Slug of a type that the server knows, e.g. `remote-file-system`."""
    block: str
    """Its name; another name or type is another block. Flows load it as `<block_type>/<block>`."""
    data: pulumi.Input[Mapping[str, object]]
    """The fields of the type, all of them: what is not named here is removed. Secret as a whole."""


class BlockProvider(PrefectProvider[BlockArgs]):
    """Blocks have no place for a mark: one with just the given data is what was asked for."""

    args_type = BlockArgs
    kind = "block"
    identity = ("block_type", "block")
    secrets = ("data",)
    rules: ClassVar = {
        "block_type": matching(r"[a-z0-9-]+", "must be a slug of lower-case letters, digits and dashes"),
        "block": matching(r"[a-z0-9-]+", "must be lower-case letters, digits and dashes"),
    }

    def find(self, client: SyncPrefectClient, args: BlockArgs) -> Found | None:
        document = unless_missing(
            lambda: client.read_block_document_by_name(args.block, args.block_type, include_secrets=True)
        )
        return None if document is None else Found({"data": document.data, "block_id": str(document.id)})

    def make(self, client: SyncPrefectClient, args: BlockArgs) -> Props:
        from prefect.client.schemas.actions import BlockDocumentCreate

        type_id, schema_id = _type(client, args)
        document = BlockDocumentCreate(
            name=args.block,
            data=dict(plain(args.data)),
            block_type_id=type_id,
            block_schema_id=schema_id,
        )
        return {"block_id": str(client.create_block_document(document).id)}

    def change(self, client: SyncPrefectClient, args: BlockArgs, _found: Found) -> Props:
        """In place, so that its id stays: deployments and other blocks may refer to it."""
        from prefect.client.schemas.actions import BlockDocumentUpdate

        _, schema_id = _type(client, args)
        document = client.read_block_document_by_name(args.block, args.block_type, include_secrets=False)
        update = BlockDocumentUpdate(block_schema_id=schema_id, data=dict(plain(args.data)), merge_existing_data=False)
        client.update_block_document(document.id, update)
        return {"block_id": str(document.id)}

    def remove(self, client: SyncPrefectClient, args: BlockArgs, _found: Found) -> None:
        document = client.read_block_document_by_name(args.block, args.block_type, include_secrets=False)
        client.delete_block_document(document.id)


def _type(client: SyncPrefectClient, args: BlockArgs) -> tuple[UUID, UUID]:
    """Return the ids of the type and of its newest schema."""
    known = unless_missing(lambda: client.read_block_type_by_slug(args.block_type))
    schema = client.get_most_recent_block_schema_for_block_type(known.id) if known else None
    if known is None or schema is None:
        raise ProviderError(
            f"the server knows no block type {args.block_type!r}; nothing was changed. Mend the slug "
            "(`prefect block type ls` lists those known), or register the type: "
            "`prefect block register -m MODULE`, where its package is installed."
        )
    return known.id, schema.id


class Block(Resource, module="prefect", name="Block"):
    """A block; create is refused where one with other data exists, unless `adopt`."""

    block: pulumi.Output[str]
    block_type: pulumi.Output[str]
    block_id: pulumi.Output[str]
    """Its id in Prefect, which automations refer to it by."""

    def __init__(self, name: str, args: BlockArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(BlockProvider(), name, args, opts, secret=("data",), computed=("block_id",))
