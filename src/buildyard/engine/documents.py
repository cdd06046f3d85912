"""Reads YAML and JSON written by people into nodes that know their place, within limits on size, depth and aliases."""

import json
from collections.abc import Iterator

import yaml

from buildyard.domain.errors import Fault, Invalid, TooLarge

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 32
MOST_ALIASES = 200
MOST_NODES = 500_000
"""The most values of a document, each alias counted as all that it stands for."""

MERGE = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value")
)


def read_document(text: bytes, what: str = "the file") -> yaml.Node:
    """The root node of a document. Raises TooLarge, or Invalid with one fault that says where reading stopped."""
    if len(text) > MOST_BYTES:
        raise TooLarge(f"{what} is larger than {MOST_BYTES // 1024} KiB")
    try:
        source = text.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _unreadable(what, f"is not UTF-8 text (byte {exc.start})") from exc
    if source.lstrip("\ufeff \t\r\n").startswith("{"):
        return _read_json(source.removeprefix("\ufeff"), what)
    return _read_yaml(source, what)


def place(node: yaml.Node) -> str:
    """Where a node begins, for people; empty if that is not known."""
    mark = node.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""


def _read_json(source: str, what: str) -> yaml.Node:
    """JSON is checked as such, then read as YAML for the places; the few texts that YAML reads otherwise have none."""
    try:
        value = json.loads(source)
    except json.JSONDecodeError as exc:
        if not _looks_like_json(source):
            return _read_yaml(source, what)
        raise _unreadable(what, f"{exc.msg} (line {exc.lineno}, column {exc.colno})") from exc
    except RecursionError as exc:
        raise _unreadable(what, f"is nested deeper than {MOST_DEPTH} levels") from exc
    except ValueError as exc:
        raise _unreadable(what, "holds a number that is too long") from exc
    if "\\u" in source or "\\/" in source:
        return _read_yaml(json.dumps(value, ensure_ascii=False), what, placed=False)
    return _read_yaml(source, what)


def _looks_like_json(source: str) -> bool:
    return source.lstrip()[1:].lstrip()[:1] in ('"', "}")


def _read_yaml(source: str, what: str, *, placed: bool = True) -> yaml.Node:
    try:
        _check_shape(source, what)
        loader = yaml.CSafeLoader(source)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        at = f" (line {mark.line + 1}, column {mark.column + 1})" if mark and placed else ""
        raise _unreadable(what, f"{exc.problem or 'is not YAML'}{at}") from exc
    except yaml.YAMLError as exc:
        raise _unreadable(what, str(exc).splitlines()[0]) from exc
    except UnicodeEncodeError as exc:
        raise _unreadable(what, "holds half of a character (a lone surrogate)") from exc
    if node is None:
        raise _unreadable(what, "is empty")
    _check_nodes(node, what)
    if not placed:
        _forget_places(node)
    return node


def _check_shape(source: str, what: str) -> None:
    """Depth, aliases and tags, from the stream of events: nothing is built yet."""
    depth = aliases = 0
    for event in yaml.parse(source, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        if depth > MOST_DEPTH:
            raise _unreadable(what, f"is nested deeper than {MOST_DEPTH} levels ({_event_place(event)})")
        if aliases > MOST_ALIASES:
            raise _unreadable(what, f"holds more than {MOST_ALIASES} aliases ({_event_place(event)})")


def _event_place(event: yaml.Event) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _check_nodes(root: yaml.Node, what: str) -> None:
    """Tags, aliases that contain themselves, and the number of values with all aliases written out."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise _unreadable(what, f"an alias contains itself ({place(node)})")
        if id(node) not in sizes:
            if node.tag not in _PLAIN_TAGS:
                raise _unreadable(what, f"the tag {node.tag} is not allowed ({place(node)})")
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(size(child) for child in _children(node))
            open_nodes.discard(id(node))
        return sizes[id(node)]

    if size(root) > MOST_NODES:
        raise _unreadable(what, f"stands for more than {MOST_NODES} values")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _forget_places(root: yaml.Node) -> None:
    root.start_mark = None
    for child in _children(root):
        _forget_places(child)


def _unreadable(what: str, message: str) -> Invalid:
    return Invalid(f"{what}: {message}", (Fault("", message, "syntax"),))
