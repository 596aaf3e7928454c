"""What was agreed once: compared in every preview, and a change is refused before anything is touched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, ReadResult, UpdateResult

from providers.base import Declared, DeclaredProvider, Props, normalised


@dataclass(frozen=True)
class ContractArgs(Declared):
    """Terms, whatever they are about."""

    terms: Mapping[str, str]
    """What must not change, by the name that a user knows it under."""


ContractT = TypeVar("ContractT", bound=ContractArgs)


class ContractProvider(DeclaredProvider[ContractT]):
    """Calls no server: it only compares what is asked for with what was agreed."""

    def agrees(self, _args: ContractT, _agreed: Mapping[str, str]) -> bool:
        """Say whether other terms than the agreed ones are fine; by itself no change is."""
        return False

    @abstractmethod
    def refusal(self, args: ContractT, changed: str) -> str:
        """Say what a change of terms would do and how to go on; `changed` is `<term> from <old> to <new>, ...`."""

    def check(self, olds: Props, news: Props) -> CheckResult:
        """Refuse other terms than those in the state, for the same subject."""
        old, new = normalised(olds), normalised(news)
        agreed, asked = old.get("terms", {}), new["terms"]
        args = self.args(new)
        if any(old.get(name) != new[name] for name in self.identity) or agreed == asked or self.agrees(args, agreed):
            return CheckResult(news, [])
        changed = ", ".join(
            f"{term} from {agreed.get(term, 'none')} to {asked.get(term, 'none')}"
            for term in sorted(agreed.keys() | asked.keys())
            if agreed.get(term) != asked.get(term)
        )
        return CheckResult(news, [CheckFailure("terms", self.refusal(args, changed))])

    def create(self, props: Props) -> CreateResult:
        """Agree."""
        new = normalised(props)
        return CreateResult(self.id(self.args(new)), new)

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Agree anew."""
        return UpdateResult(normalised(news))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Nothing outside the state could differ."""
        return ReadResult(id_, normalised(props))
