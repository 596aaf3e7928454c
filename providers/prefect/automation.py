"""An automation: what Prefect's server does by itself when events come, or fail to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import pulumi

from providers.base import Args, Found, Props, Resource, Value, matching
from providers.connection import PrefectConnection
from providers.prefect.server import PrefectProvider, marked, unmarked

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation as LiveAutomation
    from prefect.events.schemas.automations import AutomationCore

JsonObject = Mapping[str, object]

RULE: Final = ("trigger", "actions", "actions_on_trigger", "actions_on_resolve")
SETS: Final = frozenset({"after", "expect", "for_each"})
"""What the server holds without an order."""


@dataclass(frozen=True)
class AutomationArgs(Args[PrefectConnection]):
    """What an automation is (https://docs.prefect.io/v3/concepts/automations).

    Trigger and actions are as the API has them; what they leave out is Prefect's default.
    """

    automation: str
    """Its name; another name is another automation."""
    trigger: JsonObject
    """A trigger of type `event`, `compound` or `sequence`
    (https://docs.prefect.io/v3/concepts/event-triggers)."""
    actions: pulumi.Input[Sequence[JsonObject]]
    """What is done each time that it fires, each with its `type`."""
    actions_on_trigger: pulumi.Input[Sequence[JsonObject]] = ()
    """What is done, too, when it comes to be triggered."""
    actions_on_resolve: pulumi.Input[Sequence[JsonObject]] = ()
    """What is done, too, when it is resolved."""
    description: str | None = None
    """Shown in the UI, above the stack's mark."""


def trigger_rule(value: Value) -> str | None:
    """Look at a trigger; Prefect's server judges the rest of it."""
    kinds = ("event", "compound", "sequence")
    return None if value.get("type") in kinds else f"its `type` must be one of {', '.join(kinds)}"


def actions_rule(value: Value) -> str | None:
    """Look at a list of actions; Prefect's server judges the rest of them."""
    return None if all(action.get("type") for action in value) else "each needs its `type`, such as `send-notification`"


class AutomationProvider(PrefectProvider[AutomationArgs]):
    """Automations are marked in their description. Pausing one is the business of whoever uses Prefect.

    Prefect lets several have one name: the stack's own is the one with its mark.
    """

    args_type = AutomationArgs
    kind = "automation"
    identity = ("automation",)
    rules: ClassVar = {
        "automation": matching(r"\S(.*\S)?", "must be a line of text without blanks around it"),
        "trigger": trigger_rule,
        "actions": lambda value: actions_rule(value) if value else "it would do nothing; give one or more",
        "actions_on_trigger": actions_rule,
        "actions_on_resolve": actions_rule,
    }

    def find(self, client: SyncPrefectClient, args: AutomationArgs) -> Found | None:
        live = _live(client, args)
        if live is None:
            return None
        description, owner = unmarked(live.description)
        real, asked = _rule(live), _rule(_core(args, enabled=True))
        values: Props = {
            name: getattr(args, name) if real[name] == asked[name] else real[name]
            for name in RULE
        }  # fmt: skip
        return Found(values | {"description": description}, owner)

    def make(self, client: SyncPrefectClient, args: AutomationArgs) -> Props:
        client.create_automation(_core(args, enabled=True))
        return {}

    def change(self, client: SyncPrefectClient, args: AutomationArgs, _found: Found) -> Props:
        live = _live(client, args)
        if live is None:
            return self.make(client, args)
        client.update_automation(live.id, _core(args, enabled=live.enabled))
        return {}

    def remove(self, client: SyncPrefectClient, args: AutomationArgs, found: Found) -> None:
        """Another one of the same name stays: the stack's own has gone already."""
        live = _live(client, args)
        if live is not None and found.owner == args.owner:
            client.delete_automation(live.id)


def _live(client: SyncPrefectClient, args: AutomationArgs) -> LiveAutomation | None:
    """The stack's own, else another one of that name."""
    named = client.read_automations_by_name(args.automation)
    ours = [each for each in named if unmarked(each.description)[1] == args.owner]
    return next(iter(ours or named), None)


def _core(args: AutomationArgs, *, enabled: bool) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore

    rule = {name: getattr(args, name) for name in RULE}
    text = marked(args.description, args.owner)
    return AutomationCore.model_validate({"name": args.automation, "description": text, "enabled": enabled, **rule})


def _rule(core: AutomationCore) -> Props:
    """Trigger and actions with Prefect's defaults, in a form that can be compared."""
    return {name: _ordered(value) for name, value in core.model_dump(mode="json", include=set(RULE)).items()}


def _ordered(value: Value) -> Value:
    if isinstance(value, Mapping):
        return {key: sorted(item) if key in SETS else _ordered(item) for key, item in value.items()}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


class Automation(Resource, module="prefect", name="Automation"):
    """An automation; create is refused where a foreign one of its name exists, unless `adopt`."""

    automation: pulumi.Output[str]

    def __init__(self, name: str, args: AutomationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(AutomationProvider(), name, args, opts)
