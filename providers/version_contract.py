"""Which version of a program has brought its data into form: recorded, and an older one is refused in preview."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from providers.base import Resource
from providers.contract import ContractArgs, ContractProvider


@dataclass(frozen=True)
class VersionContractArgs(ContractArgs):
    """What was migrated, and the versions (the terms) that it was migrated by."""

    data: str


class VersionContractProvider(ContractProvider[VersionContractArgs]):
    """Lets versions rise, and refuses to let them fall."""

    args_type = VersionContractArgs
    kind = "version contract"
    identity = ("data",)

    def agrees(self, args: VersionContractArgs, agreed: Mapping[str, str]) -> bool:
        """A newer version migrates what an older one has left."""
        return all(_numbers(args.terms.get(name, "")) >= _numbers(version) for name, version in agreed.items())

    def refusal(self, args: VersionContractArgs, changed: str) -> str:
        """Name the data, the change and the way out."""
        return (
            f"{args.data} is in the newer version's form, and an older one would not start with it: {changed}. Nothing "
            "was changed. Check out the version of this project that has the newer one; or go back to a backup of "
            "before with scripts/restore, as docs/upgrades.md tells"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


class VersionContract(Resource, name="VersionContract"):
    """The version that has migrated data; nothing depends on it, so that a restore may forget it."""

    def __init__(self, name: str, args: VersionContractArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(VersionContractProvider(), name, args, opts)
