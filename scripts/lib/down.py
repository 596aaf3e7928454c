"""The flow of scripts/down."""

from scripts.lib import recovery, stacks
from scripts.lib.setup import Ready, set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, confirm, must_be_asked, say
from scripts.lib.up import update


def down(wanted: str | None, *, purge: bool, yes: bool) -> int:
    """Destroy a stack; its data stays unless purge. Return the exit code.

    Raises:
        Failure: there is no such stack, or a purge was neither confirmed nor --yes.
    """
    if purge:
        must_be_asked("--purge removes data for ever", yes=yes)
    ready = set_up(wanted, Consent(given=yes), images=False)
    stack = Stack(ready.stack, ready.env)
    if stack.name not in stacks.existing(ready.env):
        say(f"There is no stack {stack.name}; nothing to do.")
        return 0
    recovery.recover(stack, ready.engines)
    if not purge:
        update(stack, "destroy", "--exclude-protected", yes=yes)
        say(f"\nThe data of {stack.name} is kept, scripts/up brings it back; scripts/down --purge removes it.")
        return 0
    volumes = sorted(name for engine in ready.engines for name in engine.names("volume", PROJECT, stack.name).values())
    if not yes:
        confirm(f"Remove the stack {stack.name} and, for ever, its data in {', '.join(volumes) or 'no volume'}?")
    _purge(stack, ready, volumes)
    return 0


def _purge(stack: Stack, ready: Ready, volumes: list[str]) -> None:
    if (stack.deployment().get("deployment") or {}).get("resources"):
        stack.pulumi("state", "unprotect", "--all", "--yes")
        update(stack, "destroy", yes=True)
    # The stack keeps volumes when it goes, and builds outlive their resources: the engine removes both.
    images = []
    for engine in ready.engines:
        engine.remove("volume", sorted(engine.names("volume", PROJECT, stack.name).values()))
        images += engine.remove_images(PROJECT, stack.name)
    stack.remove()
    say(f"✓ gone: stack {stack.name}, {len(volumes)} volumes, {len(images)} images")
