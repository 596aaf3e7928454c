"""Which Docker host a stack's objects are on: recorded once, and a change is refused in preview.

The Docker provider takes another address as an update of itself alone: what is on the old host would stay there,
unseen, and nothing would be made on the new one until a refresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pulumi

from providers.base import Resource
from providers.contract import ContractArgs, ContractProvider

FIRST: Final = "host"
"""Path of the setting of the host that holds the data."""


@dataclass(frozen=True)
class HostContractArgs(ContractArgs):
    """A host of the stack and its address."""

    setting: str
    """Path of the host's setting, such as `host`."""
    formerly: Mapping[str, str] = field(default_factory=dict)
    """Terms under which the same engine was reached before: from these, and no others, a change is agreed to."""


class HostContractProvider(ContractProvider[HostContractArgs]):
    """Refuses to leave a host behind."""

    args_type = HostContractArgs
    kind = "host contract"
    identity = ("setting",)

    def agrees(self, args: HostContractArgs, agreed: Mapping[str, str]) -> bool:
        """Another address of the same engine leaves nothing behind."""
        return agreed == args.formerly

    def refusal(self, args: HostContractArgs, changed: str) -> str:
        """Name the change, what would be left behind, and the way out."""
        move = (
            "for a move see docs/move.md"
            if args.setting == FIRST
            else f"to move what runs there, remove {args.setting}, run `scripts/up`, and name the new host"
        )
        return (
            f"{changed}: the containers, networks and volumes there would stay behind, out of this stack's sight, and "
            f"nothing would come with them. Nothing was changed. Set {args.setting}.address back; if it is the "
            f"same engine elsewhere, name its old address in {args.setting}.formerly; {move}"
        )


class HostContract(Resource, name="HostContract"):
    """The address under which a host's objects were made; declare it before them."""

    def __init__(self, name: str, args: HostContractArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HostContractProvider(), name, args, opts)
