"""The policy pack: the rules of `rules.py`, run by Pulumi's engine on every resource of a preview or an up."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import getitem

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyPack,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError
from rules import ADVISORY, MANDATORY, UNKNOWN, Resource, Rule, known_secrets, no_secret_is_readable


def resource(args: ResourceValidationArgs | PolicyResource) -> Resource:
    """Turn the engine's resource into the rules'."""
    properties = {key: _plain(partial(getitem, args.props, key)) for key in args.props}
    return Resource(args.resource_type, args.name, properties, bool(args.opts.protect))


def _plain(read: Callable[[], object]) -> object:
    """Copy a property as plain lists and maps: reading one of the engine's raises where it is not known yet."""
    try:
        value = read()
    except UnknownValueError:
        return UNKNOWN
    if isinstance(value, Mapping):
        return {name: _plain(partial(getitem, value, name)) for name in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(partial(getitem, value, index)) for index in range(len(value))]
    return value


def each(name: str, rule: Rule, level: EnforcementLevel) -> Policy:
    """Make a policy of a rule."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for problem in rule(resource(args)):
            report(f"{args.name}: {problem}.", None)

    return ResourceValidationPolicy(name, str(rule.__doc__), validate, level)


def no_secrets(args: StackValidationArgs, report: ReportViolation) -> None:
    """Look for the stack's own secrets, which are known when all its resources are."""
    resources = {each.urn: resource(each) for each in args.resources}
    secrets = known_secrets(resources.values())
    for urn, each in resources.items():
        for problem in no_secret_is_readable(each, secrets):
            report(f"{each.name}: {problem}.", urn)


PolicyPack(
    "prefect-environment",
    [
        *(each(name, rule, EnforcementLevel.MANDATORY) for name, rule in MANDATORY.items()),
        *(each(name, rule, EnforcementLevel.ADVISORY) for name, rule in ADVISORY.items()),
        StackValidationPolicy(
            "no-secret-is-readable", str(no_secret_is_readable.__doc__), no_secrets, EnforcementLevel.MANDATORY
        ),
    ],
)
