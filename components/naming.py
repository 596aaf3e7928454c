"""How the stack's Docker objects are called and marked."""

from __future__ import annotations

from typing import Final

import pulumi

LABEL: Final = "prefect-environment"


def qualified(name: str) -> str:
    """The name of a Docker object: `<project>-<stack>-<name>`, so that stacks share a host."""
    return f"{pulumi.get_project()}-{pulumi.get_stack()}-{name}"


def labels(name: str) -> dict[str, str]:
    """The marks by which the stack's own objects are found again. Frozen: a changed label replaces a volume."""
    return {
        f"{LABEL}.project": pulumi.get_project(),
        f"{LABEL}.stack": pulumi.get_stack(),
        f"{LABEL}.name": name,
    }
