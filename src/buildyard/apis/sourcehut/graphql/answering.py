"""A query's way to its answer: read, measured, checked, run, written down."""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    execute,
    parse,
    validate,
)

from buildyard.apis.sourcehut.graphql.context import Context
from buildyard.apis.sourcehut.graphql.execution import GraphqlConfig
from buildyard.apis.sourcehut.graphql.limits import check_cost, check_text
from buildyard.apis.sourcehut.graphql.schema import the_schema
from buildyard.domain.errors import EngineError, Invalid

log = structlog.get_logger()

MOST_FAULTS = 20


async def answer(
    context: Context, query: str, variables: Mapping[str, Any] | None, operation: str | None
) -> dict[str, Any]:
    """The answer to a query, as it is sent."""
    try:
        document = _read(query, context.config)
        if faults := validate(the_schema(), document, max_errors=MOST_FAULTS):
            return {"errors": [fault.formatted for fault in faults]}
        check_cost(the_schema(), document, context.config)
        async with asyncio.timeout(context.config.timeout_s):
            return _written(await _run(context, document, variables, operation))
    except GraphQLError as exc:
        return {"errors": [exc.formatted]}
    except EngineError as exc:
        return {"errors": [{"message": str(exc)}]}
    except TimeoutError:
        return {"errors": [{"message": f"the query took longer than {context.config.timeout_s:g} seconds"}]}


def faults_of_stored(query: str, config: GraphqlConfig) -> list[str]:
    """What is wrong with a query that a webhook is to ask."""
    try:
        document = _read(query, config)
        faults = [fault.message for fault in validate(the_schema(), document, max_errors=MOST_FAULTS)]
        if faults:
            return faults
        check_cost(the_schema(), document, config)
    except (GraphQLError, EngineError) as exc:
        return [exc.message if isinstance(exc, GraphQLError) else str(exc)]
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].operation is not OperationType.QUERY:
        return ["a webhook's query is exactly one operation of the kind query"]
    return []


def _read(query: str, config: GraphqlConfig) -> DocumentNode:
    document = parse(query, max_tokens=config.tokens, max_source_length=config.body_bytes)
    check_text(document, config)
    return document


async def _run(
    context: Context, document: DocumentNode, variables: Mapping[str, Any] | None, operation: str | None
) -> ExecutionResult:
    result = execute(
        the_schema(),
        document,
        context_value=context,
        variable_values=dict(variables or {}),
        operation_name=operation,
        max_coercion_errors=MOST_FAULTS,
    )
    return result if isinstance(result, ExecutionResult) else await result


def _written(result: ExecutionResult) -> dict[str, Any]:
    """Errors of ours are told; those that nobody foresaw are logged, and the asker is told no more than that."""
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_error(error) for error in result.errors[:MOST_FAULTS]]}


def _error(error: GraphQLError) -> Mapping[str, Any]:
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError | EngineError):
        return {**error.formatted, **_faults(cause)}
    log.error("graphql_field_failed", path=error.path, exc_info=cause)
    return {**error.formatted, "message": "internal server error"}


def _faults(cause: Exception | None) -> dict[str, Any]:
    """Where a request is wrong, if that is known: a manifest may have many faults."""
    if not isinstance(cause, Invalid) or not cause.faults:
        return {}
    listed = [{"field": fault.path, "message": fault.message} for fault in cause.faults[:MOST_FAULTS]]
    return {"extensions": {"faults": listed}}
