"""The rules: pure functions over what the program says of a resource. Standard library only.

Each yields one message a violation, which names what is wrong, what would follow, and the fix. The pack (`__main__.py`)
runs them in Pulumi's engine, the unit tests on what the shipped stacks declare.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

CONTAINER: Final = "docker:index/container:Container"
IMAGE: Final = "docker:index/remoteImage:RemoteImage"
VOLUME: Final = "docker:index/volume:Volume"
ROLE: Final = ":Role"
GENERATED_SECRET: Final = ":GeneratedSecret"  # noqa: S105  (a type)
"""What the type of a generated secret ends in; its output `value` is the secret."""

PROXY: Final = "caddy"
"""The container that alone may listen outside."""
SECRET_FILES: Final = "/root/"  # noqa: S105  (a directory)
"""Where containers get files that hold a secret."""
PRIVATE: Final = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
"""RFC 1918, RFC 6598 (WireGuard and overlay networks use it) and RFC 4193: what routers don't carry outside."""
RESTARTS: Final = frozenset({"always", "unless-stopped", "on-failure"})
LOG_LIMITS: Final = ("max-size", "max-file")
DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}$")
IMAGE_ID: Final = "sha256:"
SHORTEST_SECRET: Final = 8
"""A shorter value is not looked for: it may be part of any word."""
SECRET_NAME: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|credential|(api|access|private)[._-]?key", re.IGNORECASE
)
NAMED: Final = re.compile(rf"(?P<name>[\w.-]*({SECRET_NAME.pattern}))[=:\s]\s*[^\s$/{{-]", re.IGNORECASE)
"""`PASSWORD=x`, `--token x`; what begins with $ or { is a variable, with / a file, with - the next option."""
IN_URL: Final = re.compile(r"\w+://[^\s/:@]*:[^\s/@$]+@")
UNKNOWN: Final = "(known after the up)"
"""Stands for an output of another resource that is not there yet: the program made it, so no rule objects to it."""


@dataclass(frozen=True)
class Resource:
    """A resource as the program declares it."""

    type: str
    name: str
    properties: Mapping[str, object]
    """Inputs by Pulumi's names, such as `memorySwap`; secrets are plain values here."""
    protect: bool

    def text(self, key: str) -> str:
        """A property that is a string; empty where it is none."""
        value = self.properties.get(key)
        return value if isinstance(value, str) else ""

    def items(self, key: str) -> Iterator[Mapping[str, object]]:
        """The maps of a property that is a list of them."""
        for item in _list(self.properties.get(key)):
            if isinstance(item, Mapping):
                yield item


Rule = Callable[[Resource], Iterator[str]]


def ports_stay_inside(resource: Resource) -> Iterator[str]:
    """Ports are published on loopback, or on a private address that the settings open, but for the proxy's."""
    if resource.type != CONTAINER or resource.name == PROXY:
        return
    if resource.text("networkMode") == "host":
        yield "networkMode is host, so all that it listens on is open to the outside. Join networks, and publish ports"
    if resource.properties.get("publishAllPorts"):
        yield "publishAllPorts opens every port of the image on all addresses. Name the ports, with an ip"
    for port in resource.items("ports"):
        ip = port.get("ip") or "0.0.0.0"  # noqa: S104  (what Docker takes)
        inside = port.get("internal")
        number = int(inside) if isinstance(inside, float) else inside  # The engine knows no whole numbers.
        if ip != UNKNOWN and not _inside(str(ip)):
            yield (
                f"port {number} is published on {ip}, open to whoever reaches the host. "
                f"Publish it on 127.0.0.1 or the host's private_address; only {PROXY} listens outside"
            )


def _inside(ip: str) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return address.is_loopback or any(address in network for network in PRIVATE)


def images_are_pinned(resource: Resource) -> Iterator[str]:
    """An image that is pulled is named by digest, and a container runs an image of the program."""
    if resource.type == IMAGE and "build" not in resource.properties and not DIGEST.search(resource.text("name")):
        yield (
            f"{resource.text('name')} has no digest, so another image may come under the same name. "
            "Append @sha256:..., as `docker buildx imagetools inspect` shows it, to the setting below `images`"
        )
    image = resource.text("image")
    if resource.type == CONTAINER and image != UNKNOWN and not image.startswith(IMAGE_ID):
        yield (
            f"it runs {image or 'no image'}, a name that may come to mean another image. "
            "Give it the image_id of an image that components/images.py declares"
        )


def bases_are_pinned(resource: Resource) -> Iterator[str]:
    """An image that is built stands on one of the stack's own, or on one that is named by digest."""
    build = resource.properties.get("build")
    if resource.type != IMAGE or not isinstance(build, Mapping):
        return
    arguments = build.get("buildArgs")
    base = str(arguments.get("BASE", "")) if isinstance(arguments, Mapping) else ""
    own = resource.text("name").partition("/")[0] + "/"
    if base and not base.startswith(own) and not DIGEST.search(base):
        yield (
            f"it is built on {base}, which has no digest: builds of two days may differ. "
            "Append @sha256:..., as `docker buildx imagetools inspect` shows it, to images.prefect"
        )


def volumes_are_protected(resource: Resource) -> Iterator[str]:
    """Volumes hold data, and can't be deleted by an edit of the program."""
    if resource.type == VOLUME and not resource.protect:
        yield "it is not protected, so an edit may delete its data. Declare it with components.service.data_volume"


def containers_are_bounded(resource: Resource) -> Iterator[str]:
    """A container that runs by itself is restarted, and each has a limit of memory and of logs."""
    if resource.type != CONTAINER:
        return
    fix = "Declare it with components.service.container"
    if resource.properties.get("start") is not False and resource.text("restart") not in RESTARTS:
        yield f"it has no restart policy, so it stays down after a crash or a reboot of the host. {fix}"
    if not resource.properties.get("memory"):
        yield f"it has no memory limit, so a leak of it takes the whole host down. {fix}, and memory_mb"
    logs = resource.properties.get("logOpts")
    if not isinstance(logs, Mapping) or not all(logs.get(limit) for limit in LOG_LIMITS):
        yield f"its log has no {' and '.join(LOG_LIMITS)}, so it fills the host's disk. {fix}"


def known_secrets(resources: Iterable[Resource]) -> frozenset[str]:
    """The secrets that resources hold: generated ones, those of roles, and files that containers read theirs from."""
    found: set[object] = set()
    for resource in resources:
        if resource.type.endswith(GENERATED_SECRET):
            found.add(resource.properties.get("value"))
        if resource.type.endswith(ROLE):
            found.add(resource.properties.get("password"))
        if resource.type == CONTAINER:
            files = resource.items("uploads")
            found |= {each.get("content") for each in files if str(each.get("file")).startswith(SECRET_FILES)}
    return frozenset(value for value in found if isinstance(value, str) and len(value) >= SHORTEST_SECRET)


def no_secret_is_readable(resource: Resource, secrets: frozenset[str]) -> Iterator[str]:
    """No label or command of a container shows a secret: one of `secrets`, or a value that is named like one."""
    if resource.type != CONTAINER:
        return
    fix = "Whoever may list containers can read it. Hand it over in a file (SecretFile of components.service)"
    for label in resource.items("labels"):
        key, value = str(label.get("label")), str(label.get("value") or "")
        if _shows(value, secrets) or (value and SECRET_NAME.search(key)):
            yield f"its label {key} holds a secret. {fix}"
    health = resource.properties.get("healthcheck")
    lines = {
        "command": resource.properties.get("command"),
        "entrypoints": resource.properties.get("entrypoints"),
        "healthcheck": health.get("tests") if isinstance(health, Mapping) else None,
    }
    for part, words in lines.items():
        line = " ".join(map(str, _list(words)))
        named = NAMED.search(line)
        if named or IN_URL.search(line) or _shows(line, secrets):
            what = f"a secret ({named['name']})" if named else "a secret"
            yield f"its {part} holds {what}. {fix}"


def _shows(text: str, secrets: frozenset[str]) -> bool:
    return any(secret in text for secret in secrets)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


MANDATORY: Final[Mapping[str, Rule]] = {
    "ports-stay-inside": ports_stay_inside,
    "images-are-pinned": images_are_pinned,
    "volumes-are-protected": volumes_are_protected,
    "containers-are-bounded": containers_are_bounded,
}
ADVISORY: Final[Mapping[str, Rule]] = {"bases-are-pinned": bases_are_pinned}
"""The shipped base of the Prefect image is named by tag: Prefect itself is installed over it from our lock."""
