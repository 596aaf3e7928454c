"""What the data in a volume needs of the program that opens it: recorded once, and a change is refused in preview."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, ReadResult

from providers.base import Declared, DeclaredProvider, Props, Resource, normalised


@dataclass(frozen=True)
class DataContractArgs(Declared):
    """A volume and the terms under which its data was written."""

    volume: str
    terms: Mapping[str, str]
    """What must not change, such as the major version of a database, by the name that a user knows it under."""


class DataContractProvider(DeclaredProvider[DataContractArgs]):
    """Calls no server: it only compares what is asked for with what was agreed."""

    args_type = DataContractArgs
    kind = "data contract"
    identity = ("volume",)

    def check(self, olds: Props, news: Props) -> CheckResult:
        old, new = normalised(olds), normalised(news)
        agreed, asked = old.get("terms", {}), new["terms"]
        if old.get("volume") != new["volume"] or agreed == asked:
            return CheckResult(news, [])
        changed = ", ".join(
            f"{term} from {agreed.get(term, 'none')} to {asked.get(term, 'none')}"
            for term in sorted(agreed.keys() | asked.keys())
            if agreed.get(term) != asked.get(term)
        )
        reason = (
            f"the volume {new['volume']} holds data that needs the old value, and would be unreadable: {changed}. "
            "Nothing was changed. Set it back; or move the data, as docs/operations.md tells"
        )
        return CheckResult(news, [CheckFailure("terms", reason)])

    def create(self, props: Props) -> CreateResult:
        new = normalised(props)
        return CreateResult(new["volume"], new)

    def read(self, id_: str, props: Props) -> ReadResult:
        return ReadResult(id_, normalised(props))


class DataContract(Resource, name="DataContract"):
    """The terms under which a volume's data was written; declare it before the volume."""

    def __init__(self, name: str, args: DataContractArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(DataContractProvider(), name, args, opts)
