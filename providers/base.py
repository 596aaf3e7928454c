"""The lifecycle that all dynamic resources share.

A resource is its arguments (`Args`), a provider (`Provider`: what identifies it, what is valid, and the calls
`find`, `make`, `change`, `remove`) and the class that a program declares (`Resource`). All else is here:

- check and diff never connect; numbers and nulls are normalised, unknown values tolerated.
- create looks first: what bears this stack's mark, or is just what was asked for, is taken over, so that a
  crash between create and the saving of state heals itself; anything else that exists needs `adopt=True`.
- diff compares the last known reality (old outputs) with what is asked for; read puts reality in the outputs.
- read never fails a refresh: only an authenticated "not found" means gone.
- no exception text holds a secret, and none carries a library's traceback with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, Final, Generic, TypeVar
from urllib.parse import quote

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)
from pulumi.dynamic import Resource as DynamicResource
from pulumi.output import Unknown

from providers.connection import (
    ClientT,
    ConnectionT,
    CredentialsError,
    Newest,
    Once,
    ResultT,
    Server,
    UnreachableError,
    probing,
    waiting,
)
from providers.ssh import HostError

Value = Any
"""A JSON value, or a `pulumi.output.Unknown` somewhere in it; each use knows its own shape."""

Props = dict[str, Value]
"""Properties by name, as Pulumi carries them."""

Rule = Callable[[Value], str | None]
"""Looks at one known input; returns what is wrong and how to mend it, or None."""

ENGINE_SECONDS: Final = 2.0
"""How often a provider process looks whether its engine lives."""

SHORTEST_SECRET: Final = 4
"""Shorter values are not scrubbed from texts: they would garble every word."""


class ProviderError(Exception):
    """A call that failed; its text holds no secret."""


class NoServerError(ProviderError):
    """A call that failed because its server does not answer or lets nobody in: others will fare no better."""


@dataclasses.dataclass(frozen=True)
class Declared:
    """What every resource's arguments have."""


@dataclasses.dataclass(frozen=True)
class Args(Declared, Generic[ConnectionT]):
    """Arguments of a resource that lives in a server."""

    connection: pulumi.Input[ConnectionT]
    """The server it lives in. A change of it alone updates the state and calls no server."""
    adopt: bool = dataclasses.field(default=False, kw_only=True)
    """Take over one that exists already and is not this stack's."""
    owner: str = dataclasses.field(default="", kw_only=True)
    """The mark of the stack, `<project>/<stack>`: filled in by the resource, never by the caller."""


DeclaredT = TypeVar("DeclaredT", bound=Declared)
ArgsT = TypeVar("ArgsT", bound=Args[Any])


@dataclasses.dataclass(frozen=True)
class Found:
    """One resource as its server has it now."""

    values: Props
    """Inputs by name, as far as the server shows them (None: it has no value), and computed outputs. An input
    that the server shows in another form with the same meaning must be given in the form of the arguments."""
    owner: str | None = None
    """The mark it bears; "" for none; None where this kind can't bear one: equal content decides instead."""


def matching(pattern: str, reason: str) -> Rule:
    """Return a rule: the whole text matches `pattern`, else `reason` says what it must be."""
    compiled = re.compile(pattern)
    return lambda value: None if isinstance(value, str) and compiled.fullmatch(value) else reason


def normalised(value: Value) -> Value:
    """Return `value` with whole floats as ints and without nulls in maps: Pulumi carries neither."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: normalised(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [normalised(item) for item in value]
    return value


def has_unknown(value: Value) -> bool:
    """Return whether `value` is unknown or holds something unknown."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_unknown(item) for item in value)
    return isinstance(value, Unknown)


def scrubbed(text: str, secrets: object) -> str:
    """Return `text` without the strings in `secrets` (nested), in any of the forms that libraries print."""
    forms = {
        form
        for secret in _strings(secrets)
        if len(secret) >= SHORTEST_SECRET
        for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""))
    }
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "[secret]")
    return text


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


@cache
def end_with_engine() -> None:
    """End this process when its engine has gone: a killed one leaves its providers running, and what they opened.

    Pulumi names the engine's address as a provider process's first argument; the parent may be a shell between them.
    """
    address = re.fullmatch(r"(.+):(\d+)", next(iter(sys.argv[1:]), ""))
    if not address:
        return
    engine = (address[1], int(address[2]))

    def watch() -> None:
        try:
            while True:
                socket.create_connection(engine, ENGINE_SECONDS).close()
                time.sleep(ENGINE_SECONDS)
        except OSError:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class DeclaredProvider(ResourceProvider, Generic[DeclaredT]):
    """check and diff: all that needs no server."""

    serialize_as_secret_always = False

    args_type: type[DeclaredT]
    kind: str
    """What error texts call it, e.g. `bucket`."""
    identity: tuple[str, ...] = ()
    """Inputs whose change makes it another resource. Never fed from another resource's outputs."""
    state_only: frozenset[str] = frozenset()
    """Inputs that the server never sees: their change updates the state and makes no call."""
    rules: ClassVar[Mapping[str, Rule]] = {}

    def configure(self, _req: ConfigureRequest) -> None:
        """Called in every preview, so nothing is reached from here."""
        end_with_engine()

    def id(self, args: DeclaredT) -> str:
        """Return the id: the identity, unless a resource says otherwise."""
        return "/".join(str(getattr(args, name)) for name in self.identity)

    def check(self, _olds: Props, news: Props) -> CheckResult:
        """Apply `rules` to every input that is known."""
        failures = [
            CheckFailure(name, reason)
            for name, rule in self.rules.items()
            if (value := normalised(news.get(name))) is not None and not has_unknown(value)
            if (reason := rule(value)) is not None
        ]
        return CheckResult(news, failures)

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Compare the last known reality with what is asked for; unknown is a change, never a replacement."""
        old, new = normalised(_olds), normalised(_news)
        changed = self.changed(old, new)
        replaces = [name for name in self.identity if name in changed and not has_unknown(new.get(name))]
        return DiffResult(
            changes=bool(changed),
            replaces=replaces,
            # Names are unique in a server: two with one id can't live side by side, two with other ids can.
            delete_before_replace=bool(replaces) and self.id(self.args(old)) == self.id(self.args(new)),
        )

    def inputs(self) -> tuple[str, ...]:
        """Return the names of the inputs."""
        return tuple(field.name for field in dataclasses.fields(self.args_type))

    def changed(self, old: Props, new: Props) -> list[str]:
        """Return the names of the inputs that differ."""
        return [name for name in self.inputs() if has_unknown(new.get(name)) or old.get(name) != new.get(name)]

    def args(self, props: Props) -> DeclaredT:
        """Return properties as arguments; what the state of an older version lacks is its default or None."""
        values: Props = {}
        for field in dataclasses.fields(self.args_type):
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if field.name in props or required:
                values[field.name] = props.get(field.name)
        return self.args_type(**values)


class Provider(DeclaredProvider[ArgsT], ABC, Generic[ArgsT, ConnectionT, ClientT]):
    """The lifecycle of a resource in a server; a subclass adds the four calls.

    Instances are stateless and shared by the threads of the provider process. The calls are made again from
    the start when the server goes away in the middle.
    """

    server: Server[ConnectionT, ClientT]
    secrets: tuple[str, ...] = ()
    """Inputs (besides the connection) and outputs that must not show in texts, whole."""
    state_only = frozenset({"connection", "adopt"})

    # By process and by server; a class attribute is not pickled with the provider.
    newest: ClassVar[Newest[Any]] = Newest()
    skipped: ClassVar[Once] = Once()

    # The calls of a resource.

    @abstractmethod
    def find(self, client: ClientT, args: ArgsT) -> Found | None:
        """Return what the server has under the identity of `args`, or None when it surely has nothing."""

    @abstractmethod
    def make(self, client: ClientT, args: ArgsT) -> Props:
        """Create it; return computed outputs."""

    @abstractmethod
    def change(self, client: ClientT, args: ArgsT, found: Found) -> Props:
        """Bring what was found to `args` in place, the owner mark included; return computed outputs."""

    @abstractmethod
    def remove(self, client: ClientT, args: ArgsT, found: Found) -> None:
        """Delete what was found."""

    # The lifecycle.

    def check(self, _olds: Props, news: Props) -> CheckResult:
        """Apply `rules`, and remember the connection for the deletes of this run."""
        connection = news.get("connection")
        if connection is not None and not has_unknown(connection):
            self.newest.remember(normalised(connection))
        return super().check(_olds, news)

    def create(self, props: Props) -> CreateResult:
        """Make it, or take over what is this stack's already."""
        new = normalised(props)
        args = self.args(new)

        def call(client: ClientT) -> Props:
            found = self.find(client, args)
            if found is None:
                return self.make(client, args)
            if not (args.adopt or self._is_ours(found, new)):
                raise ProviderError(
                    f"it exists already and is not this stack's ({args.owner}); nothing was changed. "
                    "Set adopt=True to take it over, or choose another name."
                )
            if self._differs(found, new):
                return self.change(client, args, found)
            return self._computed(found.values)

        computed = self._waiting("create", new, [_connection(new)], call)
        return CreateResult(self.id(args), new | normalised(computed))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Return reality, or the stored state with one warning a server where reality can't be had."""
        stored = normalised(props)
        args, connection = self.args(stored), _connection(stored)
        if connection["server"] in self.skipped:
            return ReadResult(id_, stored)
        try:
            found = self._scrubbing(
                "read",
                stored,
                lambda: probing(
                    self.server, self.newest.candidates(connection), lambda client: self.find(client, args)
                ),
            )
        except NoServerError as error:
            if self.skipped.add(connection["server"]):
                pulumi.log.warn(f"{error} What the state says is kept for everything on this server.")
            return ReadResult(id_, stored)
        except ProviderError as error:
            pulumi.log.warn(f"{error} What the state says of it is kept.")
            return ReadResult(id_, stored)
        if found is None:
            return ReadResult("", {})
        real = normalised(stored | found.values)
        if found.owner is not None:
            real["owner"] = found.owner
        return ReadResult(id_, real, {name: real[name] for name in self.inputs() if name in real})

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Bring it to the new arguments; make it when it has gone meanwhile."""
        old, new = normalised(_olds), normalised(_news)
        kept = self._computed(old)
        if self.state_only.issuperset(self.changed(old, new)):
            return UpdateResult(kept | new)
        args = self.args(new)

        def call(client: ClientT) -> Props:
            found = self.find(client, args)
            return self.make(client, args) if found is None else self.change(client, args, found)

        computed = self._waiting("update", new, [_connection(new)], call)
        return UpdateResult(kept | new | normalised(computed))

    def delete(self, _id: str, _props: Props) -> None:
        """Delete it with the newest credentials known, else with the stored ones; what has gone is done."""
        old = normalised(_props)
        args = self.args(old)

        def call(client: ClientT) -> None:
            found = self.find(client, args)
            if found is not None:
                self.remove(client, args, found)

        self._waiting("delete", old, self.newest.candidates(_connection(old)), call)

    # Parts.

    def _is_ours(self, found: Found, new: Props) -> bool:
        if found.owner is not None:
            return found.owner == new.get("owner")
        return not self._differs(found, new)

    def _differs(self, found: Found, new: Props) -> bool:
        real = normalised(found.values)
        marked = found.owner is None or found.owner == new.get("owner")
        shown = [name for name in self.inputs() if name in found.values]
        return not marked or any(real.get(name) != new.get(name) for name in shown)

    def _computed(self, values: Props) -> Props:
        inputs = self.inputs()
        return {name: value for name, value in values.items() if name not in inputs and name != "__provider"}

    def _waiting(
        self, doing: str, props: Props, connections: list[ConnectionT], call: Callable[[ClientT], ResultT]
    ) -> ResultT:
        return self._scrubbing(doing, props, lambda: waiting(self.server, connections, call))

    def _scrubbing(self, doing: str, props: Props, call: Callable[[], ResultT]) -> ResultT:
        """Run `call`; whatever it raises becomes a ProviderError that says where, what and how to mend it."""
        connection = _connection(props)
        kind: type[ProviderError] = ProviderError
        try:
            return call()
        except UnreachableError as error:
            kind = NoServerError
            why = (
                f"no answer ({error}). Check that its container runs and is healthy (`docker ps`, "
                "`docker logs`) and that the address can be reached from here, then run the command again."
            )
        except HostError as error:
            kind = NoServerError
            why = str(error)
        except CredentialsError as error:
            kind = NoServerError
            why = (
                f"the credentials were refused ({error}). Set the credentials that the server was started "
                "with, or restart the server with those of the settings."
            )
        except ProviderError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - a library's exception may hold the request, secrets included
            why = f"{type(error).__name__}: {error}"
        subject = f"{self.kind} {self.id(self.args(props))!r}"
        place = f"{self.server.title} {connection['server']} ({connection['url']})"
        known = self.newest.candidates(connection)
        keys: list[Value] = [each.get(key) for each in known for key in ("secret_key", "auth")]
        secrets = [*keys, *(props.get(name) for name in self.secrets)]
        # Raised outside the handler: the library's exception must not come along as its context.
        raise kind(scrubbed(f"Cannot {doing} {subject} on {place}: {why}", secrets))


def _connection(props: Props) -> Value:
    return props["connection"]


class Resource(DynamicResource):
    """Declares a dynamic resource; its outputs are its inputs and the computed ones."""

    def __init__(
        self,
        provider: DeclaredProvider[DeclaredT],
        name: str,
        args: DeclaredT,
        opts: pulumi.ResourceOptions | None = None,
        *,
        secret: tuple[str, ...] = (),
        computed: tuple[str, ...] = (),
    ) -> None:
        """Declare it.

        `secret` names inputs that are kept secret even if the caller forgot to, and computed outputs that are
        born secret; `computed` names the outputs that are no inputs.
        """
        props: Props = {field.name: getattr(args, field.name) for field in dataclasses.fields(args)}
        if isinstance(args, Args):
            props["owner"] = f"{pulumi.get_project()}/{pulumi.get_stack()}"
        for key in secret:
            if props.get(key) is not None:
                props[key] = pulumi.Output.secret(props[key])
        props |= dict.fromkeys(computed)
        born = [key for key in secret if key in computed]
        marked = pulumi.ResourceOptions(additional_secret_outputs=born)
        super().__init__(provider, name, props, pulumi.ResourceOptions.merge(opts, marked))
        for key in born:
            # For the program, too: in a preview the engine has no value yet that it could mark.
            setattr(self, key, pulumi.Output.secret(getattr(self, key)))
