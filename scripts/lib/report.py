"""What a preview would do, told in few lines: from the engine events that Pulumi writes with --event-log.

Their form is that of Pulumi's automation API, https://www.pulumi.com/docs/iac/automation-api/ (EngineEvent).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

SIGNS = {"delete": "-", "replace": "±", "update": "~", "import": "=", "create": "+"}
"""Operations that are told, the most grave first; the two halves of a replacement and what stays are not."""
LONGEST_VALUE = 60
LONGEST_BODY = 20_000
"""Characters of one stack's part of a comment, of which GitHub takes 65,536 in all."""
OF_NO_USE = re.compile(r"^using \S+ from \$PATH|^resource plugin \w+ is expected to have version|^preview failed$")
"""Pulumi's words on plugins that set-up itself put on the path, and one that says nothing."""
STEP = re.compile(r"\[(\d+)\]|\[\"((?:[^\"\\]|\\.)*)\"\]|([^.\[\]]+)")
"""One step of a property's path, such as `labels[0].value`: an index, a quoted key or a key."""
ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A resource that would be touched."""

    operation: str
    kind: str
    """Last part of its type, such as Container."""
    name: str
    properties: tuple[str, ...] = ()
    """What differs, such as `memory: 1024 → 900`."""

    def text(self) -> str:
        """Return it as one line."""
        differs = f" ({', '.join(self.properties)})" if self.properties else ""
        return f"{SIGNS[self.operation]} {self.operation} {self.kind} {self.name}{differs}"


@dataclass(frozen=True)
class Report:
    """What a preview found."""

    changes: tuple[Change, ...]
    violations: tuple[str, ...]
    """Broken rules of the policy pack that stop an `up`."""
    advice: tuple[str, ...]
    """Other things that the policy pack says."""
    messages: tuple[str, ...]
    """Errors and warnings, of Pulumi and of the program."""

    def summary(self) -> str:
        """Count the changes."""
        counts = [
            f"{len([*same])} to {operation}" for operation, same in groupby(each.operation for each in self.changes)
        ]
        return ", ".join(counts) or "no changes"

    @property
    def failed(self) -> bool:
        """Whether an error was told."""
        return any(message.startswith("error: ") for message in self.messages)

    def lines(self) -> Iterator[str]:
        """Tell all of it, a line each."""
        yield from (change.text() for change in self.changes)
        yield from (f"policy: {each}" for each in self.violations)
        yield from (f"policy, for your information: {each}" for each in self.advice)
        yield from self.messages


def read(events: Iterable[str]) -> Report:
    """Read the lines of an event log."""
    changes: list[Change] = []
    policies: dict[str, list[str]] = {}
    messages: list[str] = []
    for event in map(json.loads, events):
        if step := event.get("resourcePreEvent"):
            metadata = step["metadata"]
            if metadata["op"] in SIGNS and _is_real(metadata):
                changes.append(_change(metadata))
        elif policy := event.get("policyEvent"):
            # The first line describes the rule, the rest is the rule's own word on the resource.
            text = policy["message"].strip().partition("\n")[2].replace("\n", " ")
            policies.setdefault(policy["enforcementLevel"], []).append(f"{text} [{policy['policyName']}]")
        elif (said := event.get("diagnosticEvent")) and said["severity"] in {"error", "warning"}:
            text = said["message"].strip()
            if text and not OF_NO_USE.search(text):
                messages.append(f"{said.get('prefix', '')}{text}")
    changes.sort(key=lambda change: ([*SIGNS].index(change.operation), change.kind, change.name))
    violations = policies.pop("mandatory", [])
    advice = [text for texts in policies.values() for text in texts]
    return Report(tuple(changes), tuple(violations), tuple(advice), tuple(dict.fromkeys(messages)))


def _is_real(metadata: Mapping[str, Any]) -> bool:
    """Say whether something is touched: a component, a provider and the stack itself only hold others."""
    state = metadata.get("new") or metadata.get("old") or {}
    return bool(state.get("custom")) and not metadata["type"].startswith("pulumi:")


def _change(metadata: Mapping[str, Any]) -> Change:
    old, new = metadata.get("old") or {}, metadata.get("new") or {}
    properties = [*_properties(metadata, old, new)] if old and new else []
    kind = metadata["type"].rpartition(":")[2]
    return Change(metadata["op"], kind, metadata["urn"].rpartition("::")[2], tuple(properties))


def _properties(metadata: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    after = new.get("inputs") or {}
    before = old.get("inputs") or {}
    paths = metadata.get("detailedDiff") or {}
    if not paths:
        # Dynamic resources tell no paths, and what a refresh found is in their outputs.
        before = old.get("outputs") or before
        paths = [key for key in after if not key.startswith("__") and before.get(key) != after[key]]
    for path in paths:
        was, will = _value(before, path), _value(after, path)
        yield f"{path}: {was} → {will}" if was != will else path


def _value(properties: object, path: str) -> str:
    for index, quoted, key in STEP.findall(path):
        if isinstance(properties, Mapping):
            properties = properties.get(quoted or key, ABSENT)
        elif isinstance(properties, list) and index and int(index) < len(properties):
            properties = properties[int(index)]
        else:
            properties = ABSENT
    if properties is ABSENT:
        return "none"
    text = json.dumps(properties, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def markdown(stack: str, report: Report, outcome: str) -> str:
    """Return a comment for a pull request.

    Args:
        stack: its name.
        report: what the preview found.
        outcome: in a few words.
    """
    text = "\n".join(report.lines())
    if len(text) > LONGEST_BODY:
        text = f"{text[:LONGEST_BODY]}\n… cut here; all of it is in the job's log"
    # A fence longer than any run of backticks in the text can't be closed by it.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    body = f"\n{fence}diff\n{text}\n{fence}\n" if text else ""
    return f"### Stack `{stack}`: {outcome}\n{body}"
