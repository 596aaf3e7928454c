"""Runs the program under Pulumi's mocks and keeps every resource that it declares, as the engine would see it."""

from __future__ import annotations

import asyncio
import json
import pickle
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks, rpc
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS
from pulumi.runtime.stack import run_pulumi_func

from settings import NAMESPACE

ROOT = Path(__file__).resolve().parents[2]
SECRET = rpc._special_secret_sig


@dataclass(frozen=True)
class Recorded:
    """One resource as it was registered."""

    type: str
    name: str
    urn: str
    parent: str
    inputs: Mapping[str, Any]
    """As sent to the engine; a secret is a map with Pulumi's secret marker."""
    protect: bool
    retain_on_delete: bool
    delete_before_replace: bool
    replace_on_changes: tuple[str, ...]
    depends_on: frozenset[str]
    deleted_with: str
    provider: str
    """URN and id of the provider that makes it; empty for the default one."""

    @property
    def kind(self) -> str:
        """Last part of the type; for a dynamic resource, of its class."""
        return self.type.rpartition(":")[2]


class _Monitor(mocks.MockMonitor):
    def __init__(self, seen: list[Recorded]) -> None:
        super().__init__(_Mocks())
        self._seen = seen

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]  # the SDK's
        self._seen.append(
            Recorded(
                type=request.type,
                name=request.name,
                urn=response.urn,
                parent=request.parent,
                inputs=json_format.MessageToDict(request.object),
                protect=request.protect,
                retain_on_delete=request.retainOnDelete,
                delete_before_replace=request.deleteBeforeReplace,
                replace_on_changes=tuple(request.replaceOnChanges),
                depends_on=frozenset(request.dependencies),
                deleted_with=request.deletedWith,
                provider=request.provider,
            )
        )
        return response


class _Mocks(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        known = {"docker:index/remoteImage:RemoteImage": {"imageId": f"sha256:{args.name}"}}
        ids = dict.fromkeys(("deployment_id", "block_id"), f"id-of-{args.name}")
        generated = {"value": f"generated-{args.name}", **ids}
        return f"{args.name}-id", {**args.inputs, **known.get(args.typ, {}), **generated}

    def call(self, args: mocks.MockCallArgs) -> NoReturn:
        raise AssertionError(f"the program must read nothing: {args.token}")


def record(
    settings: Mapping[str, Any] | None = None,
    stack: str = "test",
    secret: tuple[str, ...] = (),
    program: Callable[[], object] | None = None,
) -> list[Recorded]:
    """Run `__main__.py` with `settings` below the project's namespace; raises what the program raises.

    `secret` names the top-level settings that hold a config secret; `program` is another program to run.
    """
    seen: list[Recorded] = []

    async def under_mocks() -> None:
        # Within the loop: the outputs that it makes belong to it.
        mocks.set_mocks(_Mocks(), project=NAMESPACE, stack=stack, preview=False, monitor=_Monitor(seen))
        # Mocks leave one set of outputs to all runs, and what one leaves undone the next would wait for, for ever.
        SETTINGS.outputs = set()
        pulumi.runtime.set_all_config(
            {f"{NAMESPACE}:{key}": json.dumps(value) for key, value in (settings or {}).items()},
            [f"{NAMESPACE}:{key}" for key in secret],
        )
        await run_pulumi_func(run)

    def run() -> None:
        if program:
            program()
        else:
            runpy.run_path(str(ROOT / "__main__.py"))

    # Serialising a provider wraps these anew each time, so that a thousand resources would overflow the stack.
    pristine = {name: getattr(pickle._Pickler, name) for name in ("_batch_setitems", "save_dict")}
    try:
        asyncio.run(under_mocks())
    finally:
        for name, method in pristine.items():
            setattr(pickle._Pickler, name, method)
    return seen


def revealed(value: Any) -> Any:
    """`value` with secrets opened."""
    if isinstance(value, Mapping):
        if value.get(rpc._special_sig_key) == SECRET:
            return revealed(value["value"])
        return {key: revealed(item) for key, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, list) else value


def is_secret(value: Any) -> bool:
    """Whether `value` as a whole is marked secret."""
    return isinstance(value, Mapping) and value.get(rpc._special_sig_key) == SECRET


def plain(value: Any) -> Any:
    """`value` without its secrets: what everyone may read."""
    if is_secret(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
