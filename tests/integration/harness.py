"""What the engine does to a dynamic resource, and what every one of them must do under it.

`Engine` makes the calls that Pulumi's engine makes, in its order and over its wire form (numbers are floats,
nulls are dropped, the provider is unpickled from its state form). `Lifecycle` holds the tests; a family of
resources subclasses it next to a `case` fixture that yields one `Case` a resource.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import pickle
import secrets
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pytest
from pulumi.dynamic.dynamic import ResourceProvider, serialize_provider
from pulumi.output import UNKNOWN
from pulumi.runtime import rpc

from providers import connection as waits
from providers.base import DeclaredProvider, Provider, ProviderError
from providers.connection import Newest, Once
from tests.integration.ports import free_port

Props = dict[str, Any]

OWNER = "prefect-environment/test"
CREDENTIALS: Final = ("secret_key", "auth")
"""What a connection may hold to be let in by."""


def wire(props: Props) -> Props:
    """Return properties as they arrive on the other side of the engine."""
    # A loop of our own, as a provider has it.
    with closing(asyncio.new_event_loop()) as loop:
        sent = loop.run_until_complete(rpc.serialize_properties(props, {}))
    received: Props = rpc.deserialize_properties(sent, keep_unknowns=True)
    return received


def from_state(provider: ResourceProvider) -> ResourceProvider:
    """Return the provider as a new provider process gets it from the state."""
    # Plain pickle on purpose: only a class that is found by its import path survives it.
    loaded: ResourceProvider = pickle.loads(base64.b64decode(serialize_provider(provider)))  # noqa: S301
    return loaded


class CheckError(Exception):
    """What the engine reports for failed checks."""


@dataclass
class State:
    """One resource in the state file."""

    id: str
    inputs: Props
    outputs: Props


class Engine:
    """One resource of one stack."""

    def __init__(self, provider: ResourceProvider) -> None:
        self.provider = from_state(provider)
        self.state: State | None = None

    def check(self, program: Props) -> Props:
        """Return the checked inputs."""
        old = wire(self.state.inputs) if self.state else {}
        result = self.provider.check(old, wire(program))
        if result.failures:
            raise CheckError("; ".join(f"{each.property}: {each.reason}" for each in result.failures))
        return wire(result.inputs)

    def diff(self, program: Props) -> tuple[bool, list[str], bool]:
        """Return whether there are changes, what they replace, and whether the old one goes first."""
        assert self.state is not None
        result = self.provider.diff(self.state.id, wire(self.state.outputs), self.check(program))
        assert isinstance(result.changes, bool)
        return result.changes, result.replaces or [], bool(result.delete_before_replace)

    def up(self, program: Props) -> str:
        """Bring the resource to `program`; return what was done: create, same, update or replace."""
        if self.state is None:
            self.state = self._create(program)
            return "create"
        inputs = self.check(program)
        changes, replaces, delete_first = self.diff(program)
        if not changes:
            self.state = dataclasses.replace(self.state, inputs=inputs)
            return "same"
        if replaces:
            old = self.state
            if delete_first:
                self.provider.delete(old.id, wire(old.outputs))
                self.state = None
            self.state = self._create(program)
            if not delete_first:
                self.provider.delete(old.id, wire(old.outputs))
            return "replace"
        result = self.provider.update(self.state.id, wire(self.state.outputs), inputs)
        self.state = State(self.state.id, inputs, wire(result.outs or {}))
        return "update"

    def refresh(self) -> str:
        """Read reality into the state; return same, changed or gone."""
        assert self.state is not None
        result = self.provider.read(self.state.id, wire(self.state.outputs))
        assert result.outs is not None
        if not result.id:
            self.state = None
            return "gone"
        inputs = self.state.inputs if result.inputs is None else wire(result.inputs)
        new = State(result.id, inputs, wire(result.outs))
        same = new == self.state
        self.state = new
        return "same" if same else "changed"

    def destroy(self) -> None:
        """Delete the resource."""
        assert self.state is not None
        self.provider.delete(self.state.id, wire(self.state.outputs))
        self.state = None

    def _create(self, program: Props) -> State:
        inputs = self.check(program)
        result = self.provider.create(inputs)
        return State(result.id, inputs, wire(result.outs or {}))


Act = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One resource's table: what it is given, and how a test sees and disturbs it without our providers."""

    provider: DeclaredProvider[Any]
    inputs: Props
    """Complete and valid, without `owner`; names are new in each test."""
    holds: Callable[[Props], bool]
    """Whether the server has exactly what these inputs ask for."""
    exists: Callable[[Props], bool]
    """Whether the server has anything under the identity of these inputs."""
    vanish: Act
    """Delete it behind our back."""
    invalid: list[tuple[str, object]]
    """Input, and a value that check must refuse in its name."""
    update: Props = field(default_factory=dict)
    """Inputs to change in place; empty where nothing can be."""
    replace: Props = field(default_factory=dict)
    """Inputs to change that make it another resource."""
    drift: Act | None = None
    """Change it behind our back; None where nothing can be."""
    drift_step: str = "update"
    """What the next up does about the drift."""
    foreign: Act | None = None
    """Make another one of the same name, which is not ours; None where existing is all there is to it."""
    secrets: tuple[str, ...] = ()
    """Values that must show in no text."""

    def program(self, **changes: object) -> Props:
        """Return the inputs as the program passes them."""
        return {"owner": OWNER, "adopt": False} | self.inputs | changes

    @property
    def unreachable(self) -> Props:
        """The connection to a server that does not answer."""
        connection: Props = self.inputs["connection"]
        scheme, rest = connection["url"].split("://")
        host = rest.split("/")[0]
        return connection | {"url": f"{scheme}://{rest.replace(host, f'127.0.0.1:{free_port()}', 1)}"}

    @property
    def refused(self) -> Props | None:
        """The connection with wrong credentials; None where there are none."""
        connection: Props = self.inputs["connection"]
        wrong = {key: f"wrong:{secrets.token_hex(8)}" for key in CREDENTIALS if key in connection}
        return connection | wrong if wrong else None

    def engine(self) -> Engine:
        """Return an engine that knows nothing yet."""
        return Engine(self.provider)


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a provider process of its own, with little patience. Import it where Lifecycle is used."""
    monkeypatch.setattr(Provider, "newest", Newest())
    monkeypatch.setattr(Provider, "skipped", Once())
    monkeypatch.setattr(waits, "DEADLINE", 0.5)


def failing(call: Act, *secrets: str) -> str:
    """Return the text of the ProviderError that `call` raises; its traceback must hold no secret."""
    with pytest.raises(ProviderError) as caught:
        call()
    printed = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in secrets if secret in printed]
    # Nothing of the library's exception may come along: it can hold the whole request.
    assert "During handling" not in printed
    assert "direct cause" not in printed
    return str(caught.value)


class Lifecycle:
    """What holds for every dynamic resource in a server."""

    def test_create_then_nothing(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        assert not case.exists(program)
        assert engine.up(program) == "create"
        assert case.holds(program)
        assert engine.up(program) == "same"
        assert engine.refresh() == "same"
        assert engine.up(program) == "same"
        assert engine.state is not None
        assert engine.state.id

    def test_update_in_place(self, case: Case) -> None:
        if not case.update:
            pytest.skip("all its inputs are identity")
        engine, program = case.engine(), case.program()
        engine.up(program)
        assert engine.state is not None
        before = engine.state.id
        new = program | case.update
        assert engine.diff(new) == (True, [], False)
        assert engine.up(new) == "update"
        assert engine.state.id == before
        assert case.holds(new)
        assert engine.up(new) == "same"
        assert engine.refresh() == "same"
        assert engine.up(new) == "same"

    def test_replace(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        engine.up(program)
        new = program | case.replace
        _, replaces, _ = engine.diff(new)
        assert replaces
        assert set(replaces) <= set(case.replace)
        assert engine.up(new) == "replace"
        assert case.holds(new)
        assert not case.exists(program)
        assert engine.up(new) == "same"

    def test_delete_and_delete_again(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        engine.up(program)
        state = engine.state
        engine.destroy()
        assert not case.exists(program)
        engine.state = state
        engine.destroy()
        assert engine.up(program) == "create"

    def test_drift_is_seen_and_mended(self, case: Case) -> None:
        if case.drift is None:
            pytest.skip("there is nothing in it that could drift")
        engine, program = case.engine(), case.program()
        engine.up(program)
        case.drift()
        assert not case.holds(program)
        assert engine.refresh() == "changed"
        assert engine.up(program) == case.drift_step
        assert case.holds(program)
        assert engine.refresh() == "same"

    def test_gone_is_made_again(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        engine.up(program)
        case.vanish()
        assert not case.exists(program)
        assert engine.refresh() == "gone"
        assert engine.up(program) == "create"
        assert case.holds(program)

    def test_an_update_makes_what_has_gone(self, case: Case) -> None:
        if not case.update:
            pytest.skip("all its inputs are identity")
        engine, program = case.engine(), case.program()
        engine.up(program)
        case.vanish()
        new = program | case.update
        assert engine.up(new) == "update"
        assert case.holds(new)

    def test_adoption_is_asked_for(self, case: Case) -> None:
        if case.foreign is None:
            pytest.skip("one that exists is just what was asked for")
        engine, program = case.engine(), case.program()
        case.foreign()
        text = failing(lambda: engine.up(program), *case.secrets)
        assert "adopt=True" in text
        assert not case.holds(program)
        assert engine.up(program | {"adopt": True}) == "create"
        assert case.holds(program)
        # Once adopted it is ours: the flag may go, without a call.
        assert engine.up(program) == "update"
        assert engine.up(program) == "same"

    def test_a_crash_after_create_heals(self, case: Case) -> None:
        program = case.program()
        case.engine().up(program)
        again = case.engine()
        assert again.up(program) == "create"
        assert case.holds(program)
        assert again.up(program) == "same"

    def test_a_new_connection_calls_nobody(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        engine.up(program)
        moved = program | {"connection": case.unreachable}
        assert engine.diff(moved) == (True, [], False)
        assert engine.up(moved) == "update"
        assert engine.up(moved) == "same"
        assert engine.state is not None
        assert engine.state.outputs["connection"] == moved["connection"]

    def test_unknown_is_no_replacement(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        engine.up(program)
        for name in program:
            changes, replaces, _ = engine.diff(program | {name: UNKNOWN})
            assert (changes, replaces) == (True, []), name
        moved = program["connection"] | {"url": UNKNOWN}
        assert engine.diff(program | {"connection": moved}) == (True, [], False)

    def test_check_and_diff_call_nobody(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        engine.up(program)
        away = program | {"connection": case.unreachable} | case.update
        assert engine.diff(away)[0]

    def test_invalid_inputs_fail_the_check(self, case: Case) -> None:
        assert case.invalid
        for name, value in case.invalid:
            with pytest.raises(CheckError, match=f"^{name}: "):
                case.engine().up(case.program(**{name: value}))

    def test_an_unreachable_server_is_named(self, case: Case) -> None:
        engine, program = case.engine(), case.program()
        away = case.unreachable
        text = failing(lambda: engine.up(program | {"connection": away}), *case.secrets)
        assert away["url"] in text
        assert away["server"] in text
        assert "no answer" in text
        engine.up(program)
        assert engine.state is not None
        engine.state.outputs["connection"] = away
        Provider.newest.remember(away)
        failing(engine.destroy, *case.secrets)
        assert case.holds(program)

    def test_read_keeps_the_state_of_an_unreachable_server(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read_keeps(case, case.unreachable, monkeypatch)

    def test_read_keeps_the_state_where_credentials_are_refused(
        self, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if case.refused is None:
            pytest.skip("the server asks for no credentials")
        self._read_keeps(case, case.refused, monkeypatch)

    def _read_keeps(self, case: Case, connection: Props, monkeypatch: pytest.MonkeyPatch) -> None:
        warnings: list[str] = []
        monkeypatch.setattr(pulumi.log, "warn", warnings.append)
        engine, program = case.engine(), case.program()
        engine.up(program)
        engine.up(program | {"connection": connection})
        assert engine.refresh() == "same"
        assert engine.refresh() == "same"
        assert len(warnings) == 1
        assert connection["url"] in warnings[0]
        assert not [secret for secret in case.secrets if secret in warnings[0]]

    def test_refused_credentials_are_an_error(self, case: Case) -> None:
        refused = case.refused
        if refused is None:
            pytest.skip("the server asks for no credentials")
        engine, program = case.engine(), case.program()
        wrong = program | {"connection": refused}
        hidden = (*case.secrets, *(value for key, value in refused.items() if key in CREDENTIALS))
        text = failing(lambda: engine.up(wrong), *hidden)
        assert "refused" in text
        assert not case.exists(program)
        engine.up(program)
        if case.update:
            assert "refused" in failing(lambda: engine.up(wrong | case.update), *hidden)
            assert case.holds(program)

    def test_delete_takes_the_newest_credentials(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        if case.refused is None:
            pytest.skip("the server asks for no credentials")
        engine, program = case.engine(), case.program()
        engine.up(program)
        assert engine.state is not None
        engine.state.outputs["connection"] = case.refused
        monkeypatch.setattr(Provider, "newest", Newest())
        failing(engine.destroy, *case.secrets)
        assert case.exists(program)
        engine.check(program)
        engine.destroy()
        assert not case.exists(program)
