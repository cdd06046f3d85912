"""The schema, read from its file, with a function for each field that is more than an attribute of its object.

What a field's directives demand is checked here, once for all fields.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    default_field_resolver,
)
from graphql.language import DirectiveNode, EnumValueNode

from buildyard.apis.sourcehut.graphql import groups, jobs, secrets, server, submitting, users, webhooks
from buildyard.apis.sourcehut.graphql.context import Context, Info, Resolvers
from buildyard.apis.sourcehut.graphql.scalars import define_scalars
from buildyard.domain.access import Permission
from buildyard.domain.errors import Fault, Forbidden, Invalid

Resolver = Callable[..., Any]

RESOLVERS: tuple[Resolvers, ...] = (
    server.RESOLVERS,
    users.RESOLVERS,
    secrets.RESOLVERS,
    jobs.RESOLVERS,
    groups.RESOLVERS,
    submitting.RESOLVERS,
    webhooks.RESOLVERS,
)

P = Permission
GRANTS: Mapping[str, frozenset[Permission]] = {
    "PROFILE:RO": frozenset({P.READ}),
    "JOBS:RO": frozenset({P.READ}),
    "LOGS:RO": frozenset({P.READ}),
    "SECRETS:RO": frozenset({P.RUN, P.MANAGE_SECRETS}),
    "JOBS:RW": frozenset({P.RUN}),
    "SECRETS:RW": frozenset({P.MANAGE_SECRETS}),
}
"""Which permission of a token, any of these, is as good as a grant of the real service."""


@cache
def the_schema() -> GraphQLSchema:
    """The schema, ready to be asked."""
    text = files("buildyard.apis.sourcehut.graphql").joinpath("schema.graphqls").read_text(encoding="utf-8")
    schema = build_schema(text)
    define_scalars(schema)
    given = {
        (on, name): resolver for part in RESOLVERS for on, fields in part.items() for name, resolver in fields.items()
    }
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for name, each in kind.fields.items():
                each.resolve = _guarded(each, given.pop((kind.name, name), default_field_resolver))
    assert not given, f"no such fields: {sorted(given)}"
    return schema


def _guarded(on: GraphQLField, resolver: Resolver) -> Resolver:
    """The resolver behind what the field's directives demand."""
    directives = {each.name.value: each for each in on.ast_node.directives or ()} if on.ast_node else {}
    if "worker" in directives:
        return _refuse
    grant = _grant(directives["access"]) if "access" in directives else ""
    if not grant and not on.args:
        return resolver
    return _checked(resolver, grant)


def _checked(resolver: Resolver, grant: str) -> Resolver:
    def resolve(source: Any, info: Info, **arguments: Any) -> Any:
        context = info.context
        if grant:
            require_grant(context, grant)
        if arguments:
            _refuse_nul(arguments)
        return resolver(source, info, **arguments)

    return resolve


def _refuse(_source: Any, _info: Info, **_arguments: Any) -> None:
    raise Forbidden("Access denied")


def _grant(directive: DirectiveNode) -> str:
    words = {each.name.value: each.value for each in directive.arguments or ()}
    scope, kind = words["scope"], words["kind"]
    assert isinstance(scope, EnumValueNode)
    assert isinstance(kind, EnumValueNode)
    return f"{scope.value}:{kind.value}"


def require_grant(context: Context, grant: str) -> None:
    """Raise Forbidden unless the token may do this; a webhook's query changes nothing."""
    if context.webhook is not None and grant.endswith(":RW"):
        raise Forbidden("Access denied: a webhook's query may not change anything")
    if not context.actor.allowed & GRANTS[grant]:
        raise Forbidden(f"Access denied: this needs {grant}, which the token does not have")


def _refuse_nul(value: object, path: str = "") -> None:
    """No text holds NUL, which databases cannot store."""
    if isinstance(value, str) and "\0" in value:
        message = f"{path} must not contain NUL"
        raise Invalid(message, (Fault(path, message, "nul"),))
    if isinstance(value, dict):
        for name, each in value.items():
            _refuse_nul(each, f"{path}.{name}" if path else name)
    if isinstance(value, list):
        for number, each in enumerate(value):
            _refuse_nul(each, f"{path}[{number}]")
