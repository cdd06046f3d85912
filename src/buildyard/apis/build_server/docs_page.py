"""The browsable page of this API, made from its own description; needs nothing from elsewhere."""

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --get: #1769aa; --post: #2e7d32; --put: #b26a00; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem 1.25rem 6rem; }
h1 { margin: 1rem 0 0; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; display: flex; flex-wrap: wrap; gap: .25rem .75rem; }
summary:focus-visible { outline: 2px solid var(--get); }
.inside { padding: 0 .75rem .75rem; overflow-x: auto; }
.method { font: bold .8rem/1.9 ui-monospace, monospace; min-width: 3.5rem; text-align: center; color: #fff;
  border-radius: .25rem; background: var(--get); }
.post { background: var(--post); }
.put { background: var(--put); }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
pre { background: var(--soft); padding: .75rem; border-radius: .25rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
.what { opacity: .8; }
"""

Json = dict[str, Any]


def docs_page(document: Json) -> str:
    """The whole page."""
    info = document["info"]
    tags = [tag["name"] for tag in document["tags"]]
    server = document["servers"][0]["url"]
    sections = "".join(_section(document, tag) for tag in tags)
    links = "".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in [*tags, "Schemas"])
    schemas = "".join(_named(name, schema) for name, schema in document["components"]["schemas"].items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(info["title"])}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(info["title"])}</h1>
<p>{escape(info["description"])} Version {escape(info["version"])}, at <code>{escape(server)}</code>.
The description as a file: <a href="/docs/openapi.json">openapi.json</a>.</p>
<nav>{links}</nav>
{sections}
<h2 id="{_anchor("Schemas")}">Schemas</h2>
{schemas}
</main>
</body>
</html>
"""


def _anchor(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())


def _section(document: Json, tag: str) -> str:
    shown = "".join(
        _operation(document["servers"][0]["url"], path, method, one)
        for path, operations in document["paths"].items()
        for method, one in operations.items()
        if tag in one["tags"]
    )
    return f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2>\n{shown}'


def _operation(server: str, path: str, method: str, one: Json) -> str:
    about = f"<p>{escape(one['description'])}</p>" if "description" in one else ""
    return f"""<details id="{_anchor(f"{method} {path}")}">
<summary><span class="method {method}">{method.upper()}</span><code>{escape(path)}</code>
<span class="what">{escape(one["summary"])}</span></summary>
<div class="inside">{about}{_parameters(one)}{_body(one)}{_responses(one)}{_example(server, path, method, one)}</div>
</details>
"""


def _parameters(one: Json) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}"
        f"{', required' if each.get('required') else ''}</td><td>{_type(each['schema'])}</td></tr>"
        for each in one.get("parameters", ())
    )
    return f"<h3>Parameters</h3><table>{rows}</table>" if rows else ""


def _body(one: Json) -> str:
    content = one.get("requestBody", {}).get("content", {})
    return "".join(
        f"<h3>Body <code>{escape(media)}</code></h3>{_fields(each['schema'])}" for media, each in content.items()
    )


def _responses(one: Json) -> str:
    shown = ""
    for status, response in one["responses"].items():
        content = "".join(
            f" <code>{escape(media)}</code>: {_type(each['schema'])}"
            for media, each in response.get("content", {}).items()
        )
        shown += f"<tr><td><code>{status}</code></td><td>{escape(response['description'])}</td><td>{content}</td></tr>"
    return f"<h3>Answers</h3><table>{shown}</table>"


def _example(server: str, path: str, method: str, one: Json) -> str:
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    content = one.get("requestBody", {}).get("content", {})
    for media, each in content.items():
        words += ["-H", f"'Content-Type: {media}'"]
        sample = json.dumps(_sample(each["schema"]), ensure_ascii=False)
        words += ["--data", f"'{sample}'"] if media == "application/json" else ["--data-binary", "@FILE"]
    query = "&".join(
        f"{each['name']}=…" for each in one.get("parameters", ()) if each.get("required") and each["in"] == "query"
    )
    words.append(f"'{server}{path}{'?' + query if query else ''}'")
    return f"<h3>Example</h3><pre>{escape(' '.join(words))}</pre>"


def _sample(schema: Json) -> object:
    """A small body: what is required, with empty values."""
    match schema.get("type"):
        case "object":
            names = schema.get("required", ())
            return {name: _sample(schema["properties"][name]) for name in names}
        case "array":
            inner = _sample(schema["items"])
            return [inner] if isinstance(inner, dict) and inner else []
        case "integer":
            return 0
        case "boolean":
            return False
        case _:
            return schema.get("enum", ["…"])[0]


def _named(name: str, schema: Json) -> str:
    return (
        f'<details id="{_anchor(f"schema {name}")}"><summary><code>{escape(name)}</code></summary>'
        f'<div class="inside">{_fields(schema)}</div></details>'
    )


def _fields(schema: Json) -> str:
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' (required)' if name in required else ''}</td>"
        f"<td>{_type(each)}</td></tr>"
        for name, each in schema.get("properties", {}).items()
    )
    return f"<table>{rows}</table>" if rows else f"<p>{_type(schema)}</p>"


def _type(schema: Json) -> str:
    """A schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f'<a href="#{_anchor(f"schema {name}")}">{escape(name)}</a>'
    words = schema["type"] if "format" not in schema else f"{schema['type']} ({schema['format']})"
    shown = escape(words)
    if "items" in schema:
        shown = f"array of {_type(schema['items'])}" if "properties" not in schema["items"] else "array of objects:"
    limits = [f"{name} {schema[name]}" for name in ("minLength", "maxLength", "default") if name in schema]
    if "enum" in schema:
        limits.append("one of " + ", ".join(schema["enum"]))
    about = f" – {escape(schema['description'])}" if schema.get("description") else ""
    inner = _fields(schema["items"]) if "properties" in schema.get("items", {}) else ""
    inner += _fields(schema) if "properties" in schema else ""
    return f"{shown}{escape(' (' + '; '.join(limits) + ')') if limits else ''}{about}{inner}"
