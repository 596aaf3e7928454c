"""A runner that only notes what it is asked: it stands in for all that does something to a stack."""

from __future__ import annotations

from dataclasses import dataclass, field

from scripts.lib.ui import Failure


@dataclass
class Steps:
    """The steps that were asked for, in order; the one called `fails_at` raises."""

    fails_at: str = ""
    error: BaseException = field(default_factory=lambda: Failure("it broke"))
    steps: list[str] = field(default_factory=list)

    def note(self, step: str) -> None:
        """Note a step, or fail at it."""
        self.steps.append(step)
        if step == self.fails_at:
            raise self.error
