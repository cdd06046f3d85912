"""Reads which fields and operations the documents of the five APIs have.

The documents are not part of this repository; `find` looks for the folder `shared` beside it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

METHODS = ("get", "put", "post", "delete", "patch")

Field = tuple[str, str]
"""An entity (a schema's name, an operation's body or answer, a path inside one) and a field of it."""


def find(root: Path) -> Path | None:
    """The folder with the documents, if it lies beside the repository."""
    folder = root.parent / "shared"
    return folder if (folder / "specs").is_dir() else None


def _properties(entity: str, schema: dict[str, Any]) -> Iterator[Field]:
    """The properties of a schema and of those written inside it; references are left to their own schema."""
    for name, value in schema.get("properties", {}).items():
        yield entity, name
        yield from _properties(f"{entity}.{name}", value)
    if isinstance(schema.get("items"), dict):
        yield from _properties(f"{entity}[]", schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _properties(f"{entity}.*", schema["additionalProperties"])


def _inline(document: dict[str, Any]) -> Iterator[Field]:
    """Fields of bodies and answers that are written at their operation."""
    for path, operations in document["paths"].items():
        for method in METHODS:
            operation = operations.get(method, {})
            places = [("body", operation.get("requestBody", {})), *operation.get("responses", {}).items()]
            for place, holder in places:
                for media in holder.get("content", {}).values():
                    yield from _properties(f"{method.upper()} {path} {place}", media.get("schema", {}))


def openapi_fields(path: Path) -> list[Field]:
    """Every schema property of an OpenAPI document."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = [field for name, schema in document["components"]["schemas"].items() for field in _properties(name, schema)]
    return list(dict.fromkeys([*named, *_inline(document)]))


def openapi_operations(path: Path) -> list[str]:
    """Every operation of an OpenAPI document, as `GET /path`."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        f"{method.upper()} {path}" for path, item in document["paths"].items() for method in METHODS if method in item
    ]


def rest_text_fields(path: Path) -> list[Field]:
    """The fields of the indented JSON examples of an API text, by the heading above them."""
    fields: list[Field] = []
    heading, nesting, last = "", [""], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading, nesting = line[3:], [""]
        if not line.startswith("    "):
            continue
        if found := re.match(r'\s+"([^"]+)"\s*:', line):
            last = found[1]
            fields.append((heading + "".join(nesting), last))
        body = re.sub(r'"[^"]*"|\[\.\.\.\]', "", line)
        for bracket in re.findall(r"[\[\]{}]", body):
            if bracket == "[":
                nesting.append(f" {last}[]")
            elif bracket == "]":
                nesting.pop()
    return fields


def graphql_fields(path: Path) -> list[Field]:
    """The fields of every type, interface and input but Query and Mutation, which are operations."""
    return [field for field in _graphql(path) if field[0] not in ("Query", "Mutation")]


def graphql_operations(path: Path) -> list[str]:
    """The fields of Query and Mutation, as `query me`."""
    return [f"{entity.lower()} {name}" for entity, name in _graphql(path) if entity in ("Query", "Mutation")]


def _graphql(path: Path) -> list[Field]:
    text = re.sub(r'"""[\s\S]*?"""|"[^"\n]*"|#[^\n]*', "", path.read_text(encoding="utf-8"))
    fields = []
    for entity, body in re.findall(r"\b(?:type|interface|input)\s+(\w+)[^{]*\{([^}]*)\}", text):
        flat = re.sub(r"\([^)]*\)", "", body)
        fields += [(entity, name) for name in re.findall(r"(\w+)\s*:", flat)]
    return fields


def _specification(path: Path) -> list[dict[str, Any]]:
    specs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["response"]["json"]["specs"]
    return specs


def buildbot_fields(specification: Path, text: Path) -> list[Field]:
    """The entity fields of the machine-readable specification, and those that only the text has."""
    fields = [
        (spec["type"], field["name"])
        for spec in _specification(specification)
        for field in spec["type_spec"].get("fields", [])
    ]
    return list(dict.fromkeys([*fields, *_attributes(text)]))


def _attributes(text: Path) -> Iterator[Field]:
    entity, inside = "", False
    for line in text.read_text(encoding="utf-8").splitlines():
        if line.startswith("resource type: "):
            entity = line.removeprefix("resource type: ")
        elif line in ("Attributes", "Update Methods", "Endpoints", "example"):
            inside = line == "Attributes"
        elif inside and (found := re.match(r"\s*(?:•\s*)?(\w+)\?? \([^)]*\)", line)):
            yield entity, found[1]


def buildbot_operations(specification: Path) -> list[str]:
    """Every endpoint, as `GET /api/v2/builds`."""
    return [f"GET /api/v2/{spec['path']}".rstrip("/") for spec in _specification(specification)]


def fields(shared: Path) -> dict[str, list[Field]]:
    """The fields of the five APIs, by the API's name in our files."""
    specs = shared / "specs"
    return {
        "build-server": openapi_fields(specs / "build-server.openapi.json"),
        "sourcehut": [
            *rest_text_fields(specs / "sourcehut.api.md"),
            *graphql_fields(specs / "sourcehut.builds.graphqls"),
        ],
        "buildbot": buildbot_fields(
            shared / "golden/buildbot/055_col_application.spec.json", specs / "buildbot.data-api.txt"
        ),
        "hydra": openapi_fields(specs / "hydra.openapi.yaml"),
        "containr": openapi_fields(specs / "containr.openapi.yaml"),
    }


def operations(shared: Path) -> dict[str, list[str]]:
    """The operations that the documents of the five APIs name, spelled as in our lists of operations."""
    specs = shared / "specs"
    headings = re.findall(r"^## ((?:GET|POST) .*)$", (specs / "sourcehut.api.md").read_text(encoding="utf-8"), re.M)
    graphql = graphql_operations(specs / "sourcehut.builds.graphqls")
    return {
        "build-server": openapi_operations(specs / "build-server.openapi.json"),
        "sourcehut": [*headings, *(f"POST /query: {name}" for name in graphql)],
        "buildbot": buildbot_operations(shared / "golden/buildbot/055_col_application.spec.json"),
        "hydra": openapi_operations(specs / "hydra.openapi.yaml"),
        "containr": openapi_operations(specs / "containr.openapi.yaml"),
    }
