"""The API against its documents: the given one, which must hold exactly, and our own description of it."""

import asyncio
import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from api_documents import find

from apis.build_server.serving import Api, step
from apis.build_server.test_runner import claimed, complete, send
from buildyard.apis.build_server import openapi
from buildyard.engine.audit import ACTIONS
from needs import need

ROOT = Path(__file__).resolve().parents[3]
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,response_headers_conformance"
SECONDS = 20


def given() -> dict[str, Any]:
    """The document that the API is built to."""
    folder = find(ROOT)
    need(folder, "the documents of the APIs (a folder `shared` beside the repository)")
    assert folder is not None
    return json.loads((folder / "specs/build-server.openapi.json").read_text())


def stated(document: Any) -> Any:
    """What a document demands, without its prose."""
    if isinstance(document, dict):
        return {
            name: stated(value)
            for name, value in document.items()
            if not (name in ("description", "summary", "tags") and isinstance(value, str | list))
        }
    return [stated(one) for one in document] if isinstance(document, list) else document


def holds(ours: Any, theirs: Any) -> bool:
    """Whether all that is said there is said here, where more may be said."""
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and all(holds(ours.get(name), value) for name, value in theirs.items())
    if isinstance(theirs, list):
        return isinstance(ours, list) and all(any(holds(one, value) for one in ours) for value in theirs)
    return bool(ours == theirs)


@pytest.mark.covers("build_server.operations", "build-server: GET /api/openapi.json")
async def test_our_description_holds_all_that_the_document_demands(api: Api) -> None:
    theirs, ours = stated(given()), stated((await api.get("/docs/openapi.json")).body)

    for path, operations in theirs["paths"].items():
        for method, operation in operations.items():
            assert holds(ours["paths"][path][method], operation), f"{method} {path}"
    for name, schema in theirs["components"]["schemas"].items():
        assert holds(ours["components"]["schemas"][name], schema), name
    assert (await api.get("/api/openapi.json")).body == (await api.get("/docs/openapi.json")).body


@pytest.mark.covers("build_server.docs_page", "build-server: GET /docs")
async def test_the_page_shows_every_operation_and_needs_nothing_from_elsewhere(api: Api) -> None:
    page = await api.get("/docs")

    text = page.data.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path in openapi.OPERATIONS:
        assert f"<code>{path}</code>" in text
    for action in ACTIONS:
        assert action in text
    assert "src=" not in text
    assert "@import" not in text
    assert "<link" not in text
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.covers("build_server.audit", "repo.docs.api_pages")
def test_the_written_page_lists_every_action() -> None:
    text = (ROOT / "docs/apis/build-server.md").read_text()

    assert all(f"`{action}`" in text for action in ACTIONS)


async def fuzz(api: Api, document: Path, *options: str) -> None:
    """Have schemathesis send what the document allows, and what it does not, and judge the answers."""
    program = Path(sysconfig.get_path("scripts")) / "schemathesis"
    need(program.exists(), "schemathesis (PyPI)")
    process = await asyncio.create_subprocess_exec(
        str(program),
        "run",
        str(document),
        *("--url", api.url, "--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
        *("--max-time", str(SECONDS), "--generation-database", "none", "--no-color", "--request-timeout", "30"),
        *("--warnings", "off", *options),
        cwd=document.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.covers("build_server.operations", "build_server.errors", "proof.fuzzing")
async def test_nothing_that_is_sent_by_the_document_is_answered_against_it(api: Api, tmp_path: Path) -> None:
    document = tmp_path / "given.json"
    document.write_text(json.dumps(await with_real_ids(api, given())))

    await fuzz(api, document, "--checks", CHECKS)


@pytest.mark.covers("build_server.extensions", "build_server.errors", "proof.fuzzing")
async def test_nothing_is_answered_against_our_own_description(api: Api, tmp_path: Path) -> None:
    document = tmp_path / "ours.json"
    ours = (await api.get("/docs/openapi.json")).body
    del ours["paths"]["/api/runner/claim"]
    document.write_text(json.dumps(await with_real_ids(api, ours)))

    await fuzz(api, document, "--checks", f"{CHECKS},status_code_conformance")


async def with_real_ids(api: Api, document: dict[str, Any]) -> dict[str, Any]:
    """The same document, its identifiers now and then those of things that are there."""
    build = await api.build(step("test"), step("later"))
    path, token = await claimed(api, build)
    await send(api, path, token, b"hello\n")
    await complete(api, f"/api/runner/{build.steps['later']}")
    for address, operations in document["paths"].items():
        ids = {
            "id": build.steps["test"] if "/steps/" in address else build.id,
            "stepId": build.steps["test"],
            "workflowId": build.workflow,
        }
        if address.startswith("/api/projects/"):
            ids["id"] = build.project
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in ids:
                    parameter["schema"] = {"anyOf": [{"enum": [ids[parameter["name"]]]}, parameter["schema"]]}
                if parameter["in"] == "header":
                    parameter["schema"] = {"type": "string", "enum": [token, "x"]}
    return document
