"""What the data in a volume needs of the program that opens it: recorded once, and a change is refused in preview."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi

from providers.base import Resource
from providers.contract import ContractArgs, ContractProvider

MODE: Final = ".mode from "
"""In a change: of whose the server is, the stack's own or another's."""


@dataclass(frozen=True)
class DataContractArgs(ContractArgs):
    """A volume and the terms under which its data was written, such as the major version of a database."""

    volume: str


class DataContractProvider(ContractProvider[DataContractArgs]):
    """Refuses what would make the data unreadable."""

    args_type = DataContractArgs
    kind = "data contract"
    identity = ("volume",)

    def refusal(self, args: DataContractArgs, changed: str) -> str:
        """Name the volume, the change and the way out."""
        if MODE in changed:
            return (
                f"what was stored so far would stay behind, and what takes its place knows nothing of it: {changed}. "
                "Nothing was changed. Set it back; or move the data, as docs/external-servers.md tells"
            )
        return (
            f"the volume {args.volume} holds data that needs the old value, and would be unreadable: {changed}. "
            "Nothing was changed. Set it back; or move the data, as docs/move.md tells"
        )


class DataContract(Resource, name="DataContract"):
    """The terms under which a volume's data was written; declare it before the volume."""

    def __init__(self, name: str, args: DataContractArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(DataContractProvider(), name, args, opts)
