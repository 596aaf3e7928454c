"""The policy pack's rules: the shipped stacks keep them, and a broken program hears what to mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pulumi_docker as docker
import pytest
import yaml

from policy import rules
from policy.rules import ADVISORY, CONTAINER, IMAGE, MANDATORY, VOLUME, Resource
from settings import NAMESPACE
from tests.unit.recorder import ROOT, Recorded, record, revealed

pytestmark = pytest.mark.usefixtures("_project")
STACKS = ["dev", "dev-mirror", "staging", "prod"]
DIGEST = "@sha256:" + "a" * 64


def resources(recorded: list[Recorded]) -> list[Resource]:
    return [Resource(r.type, r.name, revealed(r.inputs), r.protect) for r in recorded]


def config(stack: str) -> Mapping[str, Any]:
    values = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key.removeprefix(f"{NAMESPACE}:"): value for key, value in values.items()}


@pytest.mark.parametrize("rule", MANDATORY)
@pytest.mark.parametrize("stack", STACKS)
def test_every_shipped_stack_keeps_every_rule(stack: str, rule: str) -> None:
    declared = resources(record(config(stack), stack))
    assert {CONTAINER, IMAGE, VOLUME} <= {r.type for r in declared}
    assert [f"{r.name}: {problem}" for r in declared for problem in MANDATORY[rule](r)] == []


def test_further_hosts_open_no_more_than_private_addresses() -> None:
    hosts = {"two": {"address": "ssh://a@two", "private_address": "10.0.0.2", "dask_workers": 1}}
    first = {"address": "ssh://a@one", "private_address": "10.0.0.1"}
    declared = resources(record({"images": {"source": "build"}, "host": first, "hosts": hosts}))
    opened = {port["ip"] for r in declared for port in r.items("ports")}
    assert {"127.0.0.1", "10.0.0.1"} <= opened
    assert [problem for rule in MANDATORY.values() for r in declared for problem in rule(r)] == []


@pytest.mark.parametrize("stack", STACKS)
def test_no_shipped_stack_shows_a_secret(stack: str) -> None:
    declared = resources(record(config(stack), stack))
    secrets = rules.known_secrets(declared)
    assert {"generated-postgres-password", "generated-minio-root-password"} <= secrets
    assert [problem for r in declared for problem in rules.no_secret_is_readable(r, secrets)] == []


def test_a_stack_with_images_from_a_registry_hears_of_the_base_that_is_named_by_tag() -> None:
    def said(settings: Mapping[str, Any]) -> list[str]:
        declared = resources(record(settings))
        return [problem for r in declared for problem in ADVISORY["bases-are-pinned"](r)]

    assert said({"images": {"source": "build"}}) == []
    [problem] = said({})
    assert problem.startswith("it is built on prefecthq/prefect:3.8.8-python3.11, which has no digest")
    assert said({"images": {"prefect": f"prefecthq/prefect:3.8.8-python3.11{DIGEST}"}}) == []


SOUND: Mapping[str, Any] = {
    "image": "sha256:1",
    "restart": "unless-stopped",
    "memory": 512,
    "log_opts": {"max-size": "10m", "max-file": "3"},
}


def broken(**properties: Any) -> docker.Container:
    return docker.Container("broken", **{**SOUND, **properties})


def published(ip: str | None) -> docker.Container:
    return broken(ports=[docker.ContainerPortArgs(internal=80, external=8080, ip=ip)])


def labelled(key: str, value: pulumi.Input[str]) -> docker.Container:
    return broken(labels=[docker.ContainerLabelArgs(label=key, value=value)])


def on(base: str) -> docker.RemoteImageBuildArgs:
    return docker.RemoteImageBuildArgs(context=".", build_args={"BASE": base})


SECRET = "hush-hush-hush"
PROGRAMS: Mapping[str, tuple[str, str, Any]] = {
    "all addresses": ("ports-stay-inside", "port 80 is published on 0.0.0.0", lambda: published(None)),
    "all IPv6 addresses": ("ports-stay-inside", "published on ::, open", lambda: published("::")),
    "a public address": ("ports-stay-inside", "published on 198.51.100.7", lambda: published("198.51.100.7")),
    "a name": ("ports-stay-inside", "published on example.com", lambda: published("example.com")),
    "every port": ("ports-stay-inside", "publishAllPorts opens", lambda: broken(publish_all_ports=True)),
    "the host's network": ("ports-stay-inside", "networkMode is host", lambda: broken(network_mode="host")),
    "a tag": (
        "images-are-pinned",
        "redis:7 has no digest",
        lambda: docker.RemoteImage("broken", name="redis:7"),
    ),
    "a container on a tag": ("images-are-pinned", "it runs redis:7, a name", lambda: broken(image="redis:7")),
    "a base by tag": (
        "bases-are-pinned",
        "it is built on debian:12, which has no digest",
        lambda: docker.RemoteImage("broken", name="p-s/x:1", build=on("debian:12")),
    ),
    "an open volume": ("volumes-are-protected", "it is not protected", lambda: docker.Volume("broken")),
    "no restart": ("containers-are-bounded", "no restart policy", lambda: broken(restart=None)),
    "no restart asked for": ("containers-are-bounded", "no restart policy", lambda: broken(restart="no")),
    "no memory limit": ("containers-are-bounded", "no memory limit", lambda: broken(memory=None)),
    "no log limit": ("containers-are-bounded", "no max-size and max-file", lambda: broken(log_opts={"max-size": "1m"})),
    "a secret label": ("no-secret", "label n holds a secret", lambda: labelled("n", pulumi.Output.secret(SECRET))),
    "a label named so": ("no-secret", "its label db.password holds", lambda: labelled("db.password", "x")),
    "an option": ("no-secret", "command holds a secret (--token)", lambda: broken(command=["run", "--token", "abc"])),
    "a variable": ("no-secret", "a secret (DB_PASSWORD)", lambda: broken(entrypoints=["env", "DB_PASSWORD=abc"])),
    "a URL": ("no-secret", "its command holds a secret.", lambda: broken(command=["run", "postgres://user:abc@db/x"])),
    "a health check": (
        "no-secret",
        "its healthcheck holds a secret (password)",
        lambda: broken(healthcheck={"tests": ["CMD", "check", "password=abc"]}),
    ),
}  # fmt: skip


def said(rule: str, declared: list[Resource]) -> Iterator[str]:
    secrets = frozenset({SECRET})
    for each in declared:
        if rule == "no-secret":
            yield from rules.no_secret_is_readable(each, secrets)
        else:
            yield from {**MANDATORY, **ADVISORY}[rule](each)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_broken_program_hears_what_is_wrong_and_the_fix(name: str) -> None:
    rule, wrong, program = PROGRAMS[name]
    declared = resources(record(program=program))
    [problem] = said(rule, declared)
    assert wrong in problem
    assert any(
        fix in problem for fix in ("Declare it", "Publish it", "Name the", "Join", "Append", "Give it", "Hand it")
    )
    others = {*MANDATORY, *ADVISORY, "no-secret"} - {rule}
    assert [p for other in others for p in said(other, declared)] == [], "one rule a fault"


@pytest.mark.parametrize(
    "container",
    [
        lambda: published("127.0.0.1"),
        lambda: published("::1"),
        lambda: published("10.0.0.5"),
        lambda: published("100.64.1.2"),
        lambda: published("fd00::5"),
        lambda: broken(restart="no", start=False),
        lambda: broken(command=["run", "--password-file", "/root/p", "--token", "$TOKEN", "--secret", "/root/s"]),
        lambda: broken(command=["run", "--passphrase", "--ask", "http://db:5432/x"]),
        lambda: labelled("prefect-environment.memory-setting", "dask.memory_mb"),
        lambda: docker.Container(rules.PROXY, ports=[{"internal": 443, "external": 443}], **SOUND),
    ],
)
def test_what_is_sound_is_left_alone(container: Any) -> None:
    declared = resources(record(program=container))
    assert len(declared) > 1
    assert [p for rule in [*MANDATORY, *ADVISORY, "no-secret"] for p in said(rule, declared)] == []


def test_what_is_not_known_yet_is_left_alone() -> None:
    later = {"image": rules.UNKNOWN, "ports": [{"internal": 80, "ip": rules.UNKNOWN}]}
    container = Resource(
        CONTAINER,
        "later",
        {"restart": "always", "memory": 1, "logOpts": {"max-size": "1", "max-file": "1"}, **later},
        False,
    )
    assert [p for rule in MANDATORY for p in said(rule, [container])] == []


def test_secrets_are_those_that_were_generated_and_those_in_files() -> None:
    generated = Resource("pulumi-python:dynamic:GeneratedSecret", "g", {"value": "generated-one"}, True)
    files = [{"file": "/root/own", "content": "the-users-own"}, {"file": "/usr/bin/start", "content": "#!/bin/sh"}]
    container = Resource(CONTAINER, "c", {"uploads": [*files, {"file": "/root/short", "content": "x"}]}, False)
    assert rules.known_secrets([generated, container]) == {"generated-one", "the-users-own"}
