"""What a preview and a look for drift tell: read from engine events and from `docker ps`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.lib import drift, policy, report, tools
from scripts.lib.preview import Previewed
from toolchain.artefacts import artefact

CONTAINER = "docker:index/container:Container"


def step(op: str, kind: str, name: str, **metadata: Any) -> str:
    state = {"custom": kind.count(":") > 0 and not kind.startswith("prefect-environment:"), "inputs": {}}
    old = {**state, **metadata.pop("old", {})} if op != "create" else None
    new = {**state, **metadata.pop("new", {})} if op != "delete" else None
    urn = f"urn:pulumi:s::p::{kind}::{name}"
    return json.dumps(
        {"resourcePreEvent": {"metadata": {"op": op, "urn": urn, "type": kind, "old": old, "new": new, **metadata}}}
    )


def said(severity: str, message: str) -> str:
    return json.dumps({"diagnosticEvent": {"severity": severity, "prefix": f"{severity}: ", "message": f"{message}\n"}})


def broken(level: str) -> str:
    event = {"policyName": "rule", "enforcementLevel": level, "message": "What the rule is.\nweb: it is open.\n"}
    return json.dumps({"policyEvent": event})


def test_changes_are_told_with_what_differs_the_most_grave_first() -> None:
    found = report.read(
        [
            step("create", CONTAINER, "new"),
            step(
                "update",
                CONTAINER,
                "web",
                detailedDiff={"memory": {}, "command[1]": {}, 'labels["a.b"]': {}, "gone": {}},
                old={"inputs": {"memory": 1, "command": ["a", "b"], "labels": {"a.b": "x"}, "gone": True}},
                new={"inputs": {"memory": 2, "command": ["a", "c"], "labels": {"a.b": "y"}}},
            ),
            step("replace", CONTAINER, "old", detailedDiff={"image": {}}),
            step("delete", "docker:index/volume:Volume", "data"),
        ]
    )
    assert list(found.lines()) == [
        "- delete Volume data",
        "± replace Container old (image)",
        '~ update Container web (memory: 1 → 2, command[1]: "b" → "c", labels["a.b"]: "x" → "y", gone: true → none)',
        "+ create Container new",
    ]
    assert found.summary() == "1 to delete, 1 to replace, 1 to update, 1 to create"


def test_a_dynamic_resource_is_compared_with_what_a_refresh_found() -> None:
    old = {"inputs": {"pool": "a", "__provider": 1}, "outputs": {"queue": "q"}}
    new = {"inputs": {"pool": "a", "queue": "q", "__provider": 2}}
    found = report.read([step("update", "pulumi-python:dynamic/prefect:Deployment", "greetings", old=old, new=new)])
    assert list(found.lines()) == ['~ update Deployment greetings (pool: none → "a")']


def test_what_touches_nothing_is_not_told() -> None:
    events = [
        step("same", CONTAINER, "web"),
        step("refresh", CONTAINER, "web"),
        step("create-replacement", CONTAINER, "web"),
        step("create", "pulumi:pulumi:Stack", "s"),
        step("update", "pulumi:providers:docker", "docker"),
        step("create", "prefect-environment:index:Dask", "dask"),
        said("warning", "using pulumi-resource-docker from $PATH at /somewhere"),
        said("warning", "resource plugin docker is expected to have version >=5.2.0, but has 2.23.0; x"),
        said("debug", "a lot"),
        said("info#err", "KeyboardInterrupt"),  # How a language host ends the program when a resource failed.
        said("error", "preview failed"),
    ]
    found = report.read(events)
    assert list(found.lines()) == []
    assert found.summary() == "no changes"


def test_broken_rules_and_messages_are_told() -> None:
    found = report.read([broken("mandatory"), broken("advisory"), said("warning", "silent"), said("error", "no")])
    assert list(found.lines()) == [
        "policy: web: it is open. [rule]",
        "policy, for your information: web: it is open. [rule]",
        "warning: silent",
        "error: no",
    ]


def test_long_values_are_cut() -> None:
    old, new = {"inputs": {"x": "a" * 100}}, {"inputs": {"x": "b"}}
    [change] = report.read([step("update", CONTAINER, "web", detailedDiff={"x": {}}, old=old, new=new)]).changes
    assert change.properties == (f'x: "{"a" * 59}… → "b"',)


def test_a_comment_cannot_be_broken_out_of_and_fits() -> None:
    found = report.read(
        [said("warning", "```\n# a heading\n````"), *[said("warning", f"{n}{'x' * 900}") for n in range(99)]]
    )
    text = report.markdown("prod", found, "1 to create")
    assert text.startswith("### Stack `prod`: 1 to create\n\n`````diff\n")
    assert text.endswith("\n`````\n")
    assert "cut here" in text
    assert len(text) < 21_000


def test_a_comment_on_no_changes_is_one_line() -> None:
    found = report.read([])
    assert report.markdown("prod", found, found.summary()) == "### Stack `prod`: no changes\n"


@pytest.mark.parametrize(
    ("code", "events", "why", "outcome"),
    [
        (0, [step("create", CONTAINER, "web")], "", "1 to create"),
        (7, [step("create", CONTAINER, "web")], "", "changes where none were expected: 1 to create"),
        (1, [broken("mandatory")], "", "refused by the policy pack; no changes"),
        (1, [said("error", "no")], "the host is away", "the preview failed. the host is away"),
        (1, [], "", "the preview failed."),
    ],
)
def test_the_outcome_in_few_words(code: int, events: list[str], why: str, outcome: str) -> None:
    assert Previewed(code, report.read(events), why).outcome() == outcome


def test_containers_that_should_run_and_do_not_are_named() -> None:
    def container(name: str, **inputs: Any) -> dict[str, Any]:
        return {"type": CONTAINER, "inputs": {"name": name, **inputs}}

    boxes = [container("web"), container("box", start=False), container("ill"), container("still"), container("lost")]
    state = {"deployment": {"resources": [*boxes, {"type": "other", "inputs": {}}]}}
    found = {
        "web": "Up 3 minutes",
        "box": "Created",
        "ill": "Restarting (1) 2 seconds ago",
        "still": "Up 2 hours (Paused)",
        "another": "Exited (0)",
    }
    assert list(drift.not_running(state, found)) == [
        "! ill does not run: Restarting (1) 2 seconds ago",
        "! still does not run: Up 2 hours (Paused)",
        "! lost does not run: gone",
    ]


def test_either_language_host_gets_the_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "LOCAL", tmp_path)
    monkeypatch.setattr(policy, "make_venv", lambda: None)
    monkeypatch.setattr(tools, "directories", list)
    env = {"PATH": "/usr/bin"}
    assert policy.prepare(env) == (["--policy-pack", str(policy.PACK)], env)

    monkeypatch.setattr(tools, "directories", lambda: [artefact("language-python").path / "bin"])
    [option, place], started = policy.prepare(env)
    assert (option, place) == ("--policy-pack", str(tmp_path / "policy"))
    starter = tmp_path / "policy" / "bin" / f"pulumi-analyzer-policy-{policy.RUNTIME}"
    assert started["PATH"] == f"/usr/bin:{starter.parent}"
    assert starter.stat().st_mode & 0o111
    assert str(policy.PACK) in starter.read_text()
    described = (tmp_path / "policy" / "PulumiPolicy.yaml").read_text()
    assert "version: 0.1.0" in described
    assert described.endswith(f"runtime: {policy.RUNTIME}\n")
