"""The lifecycle of dynamic resources, as far as it needs no server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NoReturn

import pulumi
import pytest
from pulumi.output import UNKNOWN

from providers import connection as waits
from providers.base import (
    ENGINE_SECONDS,
    Args,
    Found,
    Props,
    Provider,
    ProviderError,
    Resource,
    has_unknown,
    matching,
    normalised,
    scrubbed,
)
from providers.connection import (
    CredentialsError,
    MinioConnection,
    Newest,
    Once,
    Server,
    UnreachableError,
    probing,
    waiting,
)
from tests.unit.recorder import ROOT

UNSPEAKABLE = "un" + "speakable"  # a traceback quotes lines of source
SECRET = 'pa$$ "word"/ü\''


@dataclass(frozen=True)
class ThingArgs(Args[MinioConnection]):
    thing: str
    color: str = "red"
    sizes: tuple[int, ...] = ()


class Shelf(Server[MinioConnection, dict[str, Props]]):
    """Things by name, behind a door that opens after `closed` knocks, to those with the right key."""

    title = "Shelf"

    def __init__(self, *, closed: int = 0, key: str = SECRET) -> None:
        self.closed, self.key, self.knocks = closed, key, 0
        self.things: dict[str, Props] = {}

    @contextmanager
    def session(self, connection: MinioConnection, timeout: float) -> Iterator[dict[str, Props]]:
        assert timeout > 0
        self.knocks += 1
        if self.knocks <= self.closed:
            raise UnreachableError("closed")
        if connection["secret_key"] != self.key:
            raise CredentialsError("who are you")
        yield self.things


class ThingProvider(Provider[ThingArgs, MinioConnection, dict[str, Props]]):
    args_type = ThingArgs
    kind = "thing"
    identity: tuple[str, ...] = ("thing",)
    secrets = ("color",)
    rules: ClassVar = {"color": matching("[a-z]+", "must be a word")}

    def __init__(self, shelf: Shelf) -> None:
        self.server = shelf

    def find(self, client: dict[str, Props], args: ThingArgs) -> Found | None:
        return Found(client[args.thing]) if args.thing in client else None

    def make(self, client: dict[str, Props], args: ThingArgs) -> Props:
        if args.color == UNSPEAKABLE:
            raise ValueError(f"can't paint with {args.color}, says {SECRET!r}")
        client[args.thing] = {"color": args.color}
        return {"number": len(client)}

    def change(self, client: dict[str, Props], args: ThingArgs, _found: Found) -> Props:
        client[args.thing] = {"color": args.color}
        return {}

    def remove(self, client: dict[str, Props], args: ThingArgs, _found: Found) -> None:
        del client[args.thing]


CONNECTION_OF_SHELF = MinioConnection(server="shelf", url="http://shelf", access_key="me", secret_key=SECRET)
CONNECTION: Props = {**CONNECTION_OF_SHELF}


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Provider, "newest", Newest())
    monkeypatch.setattr(Provider, "skipped", Once())
    monkeypatch.setattr(waits, "DEADLINE", 0.3)


def props(**changes: object) -> Props:
    return {
        "connection": CONNECTION,
        "owner": "p/s",
        "adopt": False,
        "thing": "cup",
        "color": "red",
    } | changes


def diff(old: Props, new: Props) -> tuple[bool | None, list[str] | None, bool | None]:
    result = ThingProvider(Shelf()).diff("cup", old, new)
    return result.changes, result.replaces, result.delete_before_replace


def test_numbers_and_nulls_are_as_before_pulumi() -> None:
    assert normalised({"a": 1.0, "b": [2.0, {"c": None, "d": 2.5}], "e": None, "f": True}) == {
        "a": 1,
        "b": [2, {"d": 2.5}],
        "f": True,
    }
    assert isinstance(normalised(3.0), int)


def test_unknown_is_found_at_any_depth() -> None:
    assert has_unknown({"a": [{"b": UNKNOWN}]})
    assert not has_unknown({"a": [{"b": "x"}], "c": None})


def test_diff_sees_changes_alone() -> None:
    assert diff(props(sizes=[1.0]), props(sizes=[1])) == (False, [], False)
    assert diff(props(), props(color="blue")) == (True, [], False)
    assert diff(props(), props(sizes=[1])) == (True, [], False)
    assert diff(props() | {"__provider": "x"}, props() | {"__provider": "y"}) == (False, [], False)
    assert diff(props() | {"number": 1.0}, props()) == (False, [], False)


def test_another_identity_is_another_resource() -> None:
    assert diff(props(), props(thing="pot")) == (True, ["thing"], False)
    assert diff(props(), props(thing=UNKNOWN)) == (True, [], False)


def test_the_old_one_goes_first_where_both_would_have_one_id() -> None:
    class Colored(ThingProvider):
        identity = ("thing", "color")

        def id(self, args: ThingArgs) -> str:
            return args.thing

    provider = Colored(Shelf())
    same_id = provider.diff("cup", props(), props(color="blue"))
    assert (same_id.replaces, same_id.delete_before_replace) == (["color"], True)
    other_id = provider.diff("cup", props(), props(thing="pot", color="blue"))
    assert (other_id.replaces, other_id.delete_before_replace) == (["thing", "color"], False)


def test_state_of_an_older_version_gets_the_defaults() -> None:
    args = ThingProvider(Shelf()).args({"connection": CONNECTION, "thing": "cup"})
    assert (args.color, args.owner, args.adopt) == ("red", "", False)


def test_rules_look_at_known_values_only() -> None:
    provider = ThingProvider(Shelf())
    failures = provider.check({}, props(color="Red!")).failures
    assert [(each.property, each.reason) for each in failures] == [("color", "must be a word")]
    assert provider.check({}, props(color=UNKNOWN)).failures == []


def test_a_missing_input_that_has_no_default_is_no_rule_s_business() -> None:
    new = props()
    del new["color"]
    assert ThingProvider(Shelf()).check({}, new).failures == []


def test_secrets_leave_texts_in_every_form() -> None:
    text = f'{SECRET} {SECRET!r} pa%24%24%20%22word%22%2F%C3%BC%27 pa$$ \\"word\\"/\\u00fc\''
    assert "word" not in scrubbed(text, {"a": [{"b": SECRET}]})
    assert scrubbed("a bucket", ["a", ""]) == "a bucket"


def test_an_error_of_a_library_shows_no_secret_and_brings_no_context() -> None:
    with pytest.raises(ProviderError) as caught:
        ThingProvider(Shelf()).create(props(color=UNSPEAKABLE))
    assert caught.value.__context__ is None
    printed = "".join(traceback.format_exception(caught.value))
    assert UNSPEAKABLE not in printed
    assert "pa$$" not in printed
    assert "Cannot create thing 'cup' on Shelf shelf (http://shelf): ValueError: can't paint with [secret]" in printed


def test_create_waits_for_a_server_that_comes_late() -> None:
    shelf = Shelf(closed=2)
    result = ThingProvider(shelf).create(props())
    assert result.outs is not None
    assert (result.id, result.outs["number"]) == ("cup", 1)
    assert shelf.knocks == 3


def test_waiting_ends_at_the_deadline_and_says_so() -> None:
    start = time.monotonic()
    with pytest.raises(ProviderError, match=r"no answer \(closed, for 0\.3 s\)\. Check that its container runs"):
        ThingProvider(Shelf(closed=1000)).create(props())
    assert time.monotonic() - start < 2


def test_refused_credentials_are_not_waited_for() -> None:
    shelf = Shelf(key="another")
    with pytest.raises(ProviderError, match="credentials were refused"):
        ThingProvider(shelf).create(props())
    assert shelf.knocks == 1


def test_read_asks_a_silent_server_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    shelf = Shelf(closed=1000)
    provider = ThingProvider(shelf)
    for thing in ("cup", "pot", "pan"):
        result = provider.read(thing, props(thing=thing))
        assert (result.id, result.outs) == (thing, props(thing=thing))
    assert shelf.knocks == 1
    assert len(warnings) == 1


def test_one_odd_resource_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(ThingProvider):
        def find(self, client: dict[str, Props], args: ThingArgs) -> Found | None:
            if args.thing == "odd":
                raise KeyError(SECRET)
            return super().find(client, args)

    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    shelf = Shelf()
    shelf.things["cup"] = {"color": "blue"}
    provider = Odd(shelf)
    assert provider.read("odd", props(thing="odd")).outs == props(thing="odd")
    assert provider.read("cup", props()).outs == props(color="blue")
    assert provider.read("pot", props(thing="pot")).id == ""
    (warning,) = warnings
    assert "thing 'odd'" in warning
    assert SECRET not in warning


def test_what_the_server_has_no_value_for_is_drift() -> None:
    shelf = Shelf()
    shelf.things["cup"] = {"color": None}
    result = ThingProvider(shelf).read("cup", props())
    assert result.outs is not None
    assert result.inputs is not None
    assert "color" not in result.outs
    assert "color" not in result.inputs
    assert diff(result.outs, props()) == (True, [], False)


def test_delete_tries_the_newest_credentials_then_the_stored_ones() -> None:
    shelf = Shelf(key="rotated")
    shelf.things["cup"] = {"color": "red"}
    provider = ThingProvider(shelf)
    provider.check({}, props(connection=CONNECTION | {"secret_key": "rotated"}))
    provider.delete("cup", props())
    assert shelf.things == {}
    # The other way round: a connection that was announced but is not in force yet.
    shelf = Shelf()
    shelf.things["cup"] = {"color": "red"}
    ThingProvider(shelf).delete("cup", props())
    assert shelf.things == {}


def test_an_unknown_connection_is_not_remembered() -> None:
    provider = ThingProvider(Shelf())
    provider.check({}, props(connection=CONNECTION | {"secret_key": UNKNOWN}))
    assert provider.newest.candidates(CONNECTION_OF_SHELF) == [CONNECTION]


def test_the_newest_failure_decides() -> None:
    shelf = Shelf(closed=1)
    new: MinioConnection = {"server": "s", "url": "u", "access_key": "a", "secret_key": SECRET}
    old: MinioConnection = {**new, "secret_key": "stale"}
    # The current server is not up yet, while something at the old address refuses us: that is worth waiting.
    with pytest.raises(UnreachableError):
        probing(shelf, [new, old], len)
    shelf.closed = 0
    assert waiting(shelf, [old, new], len) == 0


def test_a_stack_renamed_keeps_its_things() -> None:
    shelf = Shelf()
    provider = ThingProvider(shelf)
    created = provider.create(props()).outs
    assert created is not None
    assert diff(created, props(owner="p/other"))[:2] == (True, [])
    updated = provider.update("cup", created, props(owner="p/other")).outs
    assert updated is not None
    assert (updated["owner"], updated["number"]) == ("p/other", 1)


def test_instances_serve_four_threads_at_once() -> None:
    shelf = Shelf()
    provider = ThingProvider(shelf)
    threads = [
        threading.Thread(target=lambda n=n: [provider.create(props(thing=f"{n}-{i}")) for i in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shelf.things) == 200


class _Recorder(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.seen: list[pulumi.runtime.MockResourceArgs] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[object, object]]:
        self.seen.append(args)
        return args.name, dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> NoReturn:
        raise AssertionError(args.token)


class Thing(Resource, module="test", name="Thing"):
    number: pulumi.Output[int]
    thing: pulumi.Output[str]
    color: pulumi.Output[str]

    def __init__(self, name: str, args: ThingArgs) -> None:
        super().__init__(ThingProvider(Shelf()), name, args, secret=("color", "number"), computed=("number",))


def test_a_resource_adds_the_mark_and_keeps_secrets() -> None:
    recorder = _Recorder()

    async def declare() -> list[bool]:
        # Within the loop: the outputs that it makes belong to it.
        pulumi.runtime.set_mocks(recorder, project="proj", stack="dev")
        thing = Thing("a", ThingArgs(connection=CONNECTION_OF_SHELF, thing="cup"))
        return [await output.is_secret() for output in (thing.color, thing.number, thing.thing)]

    assert asyncio.run(declare()) == [True, True, False]
    (seen,) = recorder.seen
    assert seen.typ == "pulumi-python:dynamic/test:Thing"
    assert seen.inputs["owner"] == "proj/dev"
    assert seen.inputs["thing"] == "cup"


def test_a_provider_process_ends_with_its_engine() -> None:
    """Whatever stands between the two: Pulumi starts it through a shell, which outlives a killed engine."""
    program = "import time; from providers.base import end_with_engine as end; end(); print(flush=True); time.sleep(60)"
    with socket.create_server(("127.0.0.1", 0)) as engine:
        address = f"127.0.0.1:{engine.getsockname()[1]}"
        words = ["sh", "-c", f'"$0" -c "{program}" {address}; true', sys.executable]
        provider = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
        assert provider.stdout
        provider.stdout.readline()
        time.sleep(2 * ENGINE_SECONDS)
        assert provider.poll() is None
    assert provider.wait(5 * ENGINE_SECONDS) == 0
