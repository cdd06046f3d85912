"""How much a query may ask for, counted before it is run.

The text is measured first, in time proportional to its length, for checking it against the schema takes longer than
that. What its answer may hold is counted afterwards, from the schema and the usual lengths of lists.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    get_named_type,
)

from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.domain.errors import TooLarge

USUAL = {
    "JobCursor.results": 25,
    "SecretCursor.results": 25,
    "WebhookDeliveryCursor.results": 25,
    "WebhookSubscriptionCursor.results": 25,
    "Job.tasks": 10,
    "Job.artifacts": 8,
    "Job.secrets": 5,
    "JobGroup.jobs": 25,
    "JobGroup.triggers": 5,
    "__Schema.types": 60,
    "__Schema.directives": 6,
    "__Type.fields": 8,
    "__Type.inputFields": 2,
    "__Type.enumValues": 2,
}
"""How many things a list usually holds."""

DEAR = {"Log.last128KiB": 50, "UserWebhookSubscription.sample": 100, "WebhookSubscription.sample": 100}
"""Fields that are more work than others."""

OPERATIONS = 20

_INTROSPECTION = {"__schema": "__Schema", "__type": "__Type"}
_CHEAP = 5
"""So many values of the schema itself are as much work as one of the database."""


@dataclass
class _Size:
    fields: int = 0
    aliases: int = 0
    spreads: int = 0


def check_text(document: DocumentNode, config: GraphqlConfig) -> None:
    """Raise TooLarge if the text has too many fields, aliases or fragments, or is nested too deeply."""
    fragments = _fragments(document)
    size = _Size()
    if len(fragments) > config.fragments or len(document.definitions) > config.fragments + OPERATIONS:
        raise TooLarge(f"the query has more than {config.fragments} fragments")
    depth = _Depth(fragments, config.depth)
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            _count(definition.selection_set.selections, size, 0, config)
            depth.check(definition)


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}


def _count(selections: Iterable[SelectionNode], size: _Size, level: int, config: GraphqlConfig) -> None:
    if level > config.depth:
        raise TooLarge(_too_deep(config.depth))
    for selection in selections:
        size.fields += 1
        size.aliases += isinstance(selection, FieldNode) and selection.alias is not None
        if size.fields > config.fields:
            raise TooLarge(f"the query has more than {config.fields} fields")
        if size.aliases > config.aliases:
            raise TooLarge(f"the query has more than {config.aliases} aliases")
        if isinstance(selection, FieldNode | InlineFragmentNode) and selection.selection_set:
            _count(selection.selection_set.selections, size, level + 1, config)


def _too_deep(most: int) -> str:
    return f"the query is nested more than {most} levels deep"


@dataclass
class _Depth:
    """How deeply a query is nested with its fragments put in; each fragment is measured once."""

    fragments: dict[str, FragmentDefinitionNode]
    most: int
    known: dict[str, int] = field(default_factory=dict)

    def check(self, definition: OperationDefinitionNode | FragmentDefinitionNode) -> None:
        """Raise TooLarge if it is nested too deeply."""
        if self._of(definition.selection_set.selections) > self.most:
            raise TooLarge(_too_deep(self.most))

    def _of(self, selections: Iterable[SelectionNode]) -> int:
        return max((self._of_one(selection) for selection in selections), default=0)

    def _of_one(self, selection: SelectionNode) -> int:
        if isinstance(selection, FragmentSpreadNode):
            return self._of_fragment(selection.name.value)
        assert isinstance(selection, FieldNode | InlineFragmentNode)
        below = self._of(selection.selection_set.selections) if selection.selection_set else 0
        return below + isinstance(selection, FieldNode)

    def _of_fragment(self, name: str) -> int:
        if name not in self.known:
            self.known[name] = 0  # a fragment within itself adds nothing here; the schema's rules refuse it
            fragment = self.fragments.get(name)
            self.known[name] = self._of(fragment.selection_set.selections) if fragment else 0
        return self.known[name]


def check_cost(schema: GraphQLSchema, document: DocumentNode, config: GraphqlConfig) -> None:
    """Raise TooLarge if an answer to an operation of this valid document may hold too much."""
    cost = _Cost(schema, _fragments(document))
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            root = schema.get_root_type(definition.operation)
            total = cost.of(definition.selection_set.selections, root)
            if total > config.cost:
                raise TooLarge(f"the query costs {total}, and {config.cost} is the most: ask for less at once")


@dataclass
class _Cost:
    """What a selection costs: one for each value of its answer, more where it is more work."""

    schema: GraphQLSchema
    fragments: dict[str, FragmentDefinitionNode]
    known: dict[str, int] = field(default_factory=dict)

    def of(self, selections: Iterable[SelectionNode], on: GraphQLNamedType | None) -> int:
        """The cost of these selections on a type."""
        return sum(self._of_one(selection, on) for selection in selections)

    def _of_one(self, selection: SelectionNode, on: GraphQLNamedType | None) -> int:
        if isinstance(selection, FragmentSpreadNode):
            return self._of_fragment(selection.name.value)
        if isinstance(selection, InlineFragmentNode):
            named = selection.type_condition.name.value if selection.type_condition else ""
            return self.of(selection.selection_set.selections, self.schema.get_type(named) if named else on)
        assert isinstance(selection, FieldNode)
        return self._of_field(selection, on)

    def _of_field(self, selection: FieldNode, on: GraphQLNamedType | None) -> int:
        name = selection.name.value
        if name in _INTROSPECTION and selection.selection_set is not None:
            kind = self.schema.get_type(_INTROSPECTION[name])
            return 1 + self.of(selection.selection_set.selections, kind) // _CHEAP
        if not isinstance(on, GraphQLObjectType | GraphQLInterfaceType) or name not in on.fields:
            return 1
        where = f"{on.name}.{name}"
        if selection.selection_set is None:
            return DEAR.get(where, 1)
        below = self.of(selection.selection_set.selections, get_named_type(on.fields[name].type))
        return 1 + USUAL.get(where, 1) * below

    def _of_fragment(self, name: str) -> int:
        if name not in self.known:
            fragment = self.fragments[name]
            on = self.schema.get_type(fragment.type_condition.name.value)
            self.known[name] = self.of(fragment.selection_set.selections, on)
        return self.known[name]
