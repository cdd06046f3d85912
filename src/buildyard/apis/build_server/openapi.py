"""This API's own description (OpenAPI 3.0): the operations of the document it serves, and our extensions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buildyard.engine.audit import ACTIONS
from buildyard.version import VERSION

Json = dict[str, Any]

JSON, TEXT, BYTES, TAR = "application/json", "text/plain", "application/octet-stream", "application/x-tar"
EXTENSION = "Extension of Buildyard."


def text(about: str, **more: object) -> Json:
    """A string."""
    return {"type": "string", "description": about, **more}


def time(about: str) -> Json:
    """A point in time."""
    return {"type": "string", "format": "date-time", "description": about}


def number(about: str, **more: object) -> Json:
    """An integer."""
    return {"type": "integer", "description": about, **more}


def truth(about: str, **more: object) -> Json:
    """A boolean."""
    return {"type": "boolean", "description": about, **more}


def ref(name: str) -> Json:
    """A schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def many(of: Json, about: str = "") -> Json:
    """An array."""
    return {"type": "array", "items": of, **({"description": about} if about else {})}


def thing(required: tuple[str, ...] = (), /, **properties: Json) -> Json:
    """An object."""
    return {"type": "object", **({"required": list(required)} if required else {}), "properties": properties}


WORDS = ["PENDING", "RUNNING", "SUCCESS", "FAILED"]
PAGINATION = thing(
    total=number("How many there are in all."),
    limit=number("How many at most are in this answer."),
    offset=number("How many newer ones were left out."),
    hasMore=truth("Whether there are older ones."),
)
STEP_BODY = thing(
    ("name", "imageSlug", "dependsOn", "runScript", "cacheDirs", "outputPaths"),
    name=text("Name, unique in the workflow.", minLength=1, maxLength=100),
    imageSlug=text("Slug of the image that the step asks for.", minLength=1),
    dependsOn=many({"type": "string"}, "Names of the steps that must succeed first."),
    runScript=text("Bash script; the first failing command ends it. At most 512 KiB.", minLength=1),
    cacheDirs=many({"type": "string"}, "Folders kept from one run to the next, relative to the workspace."),
    outputPaths=many({"type": "string"}, "What to keep and hand on: paths, or patterns with *, ? and **."),
)
SCHEMAS: dict[str, Json] = {
    "Project": thing(
        id=text("Identifier (a UUID)."),
        accountId=text("The account that owns it."),
        name=text("Name."),
        createdAt=time("When it was made."),
        updatedAt=time("When it was last changed."),
    ),
    "Workflow": thing(
        id=text("Identifier (a UUID)."),
        projectId=text("Its project."),
        name=text("Name; several workflows may share one."),
        createdAt=time("When it was made."),
        updatedAt=time("When it was last changed."),
        steps=many(STEP_BODY, f"Its steps, in the answer for one workflow. {EXTENSION}"),
    ),
    "Build": thing(
        id=text("Identifier (a UUID)."),
        projectId=text("Its project."),
        workflowId=text("Its workflow."),
        status=text("Where it stands.", enum=WORDS),
        commitHash=text("The commit that was asked for."),
        repoUrl=text("The git repository, without credentials."),
        branch=text("The branch that was asked for."),
        commitMessage=text("What the submitter said of the commit."),
        commitAuthor=text("Whom the submitter named as author."),
        createdAt=time("When it was submitted."),
        startedAt=time("When its first step began; left out before."),
        finishedAt=time("When its last step ended; left out before."),
        number=number(f"Its number among the builds of its workflow. {EXTENSION}"),
        reason=text(f"How it ended, more exactly than the status. {EXTENSION}"),
        detail=text(f"More about that. {EXTENSION}"),
        cancelRequested=truth(f"Whether somebody asked for a stop. {EXTENSION}"),
        stepsTotal=number(f"How many steps it has. {EXTENSION}"),
        stepsLeft=number(f"How many of them have not finished. {EXTENSION}"),
    ),
    "DockerImage": thing(
        id=text("Identifier (a UUID)."),
        slug=text("Its name here, unique on the server."),
        imageUrl=text("docker://HOST/NAME:TAG, https://HOST/NAME:TAG, or an image reference."),
        public=truth("Whether all accounts may use it."),
        createdAt=time("When it was named."),
    ),
    "AuditLog": thing(
        id=text("Identifier (a UUID)."),
        projectId=text("The project concerned; left out where there is none."),
        action=text(f"What was done: one of {', '.join(ACTIONS)}."),
        details={"type": "object", "description": "Facts of the act."},
        createdAt=time("When."),
        actor=text(f"Who did it. {EXTENSION}"),
        resourceId=text(f"To what. {EXTENSION}"),
        reason=text(f"Why, if somebody said. {EXTENSION}"),
    ),
    "Error": thing(
        error=text("What is wrong, in a sentence."),
        details=many({"type": "object"}, "Each fault of the request: path, message, code."),
    ),
    "Step": thing(
        id=text("Identifier (a UUID)."),
        buildId=text("Its build."),
        name=text("Its name in the workflow."),
        status=text("Where it stands.", enum=WORDS),
        dependsOn=many({"type": "string"}, "Names of the steps that it depends on."),
        startedAt=time("When it began."),
        finishedAt=time("When it ended."),
        reason=text("How it ended, more exactly than the status."),
        detail=text("More about that."),
        attempts=many({"type": "object"}, "Each try: number, runner, status, times, commands with their exit status."),
    ),
    "Artifact": thing(
        id=text("Identifier (a UUID)."),
        buildId=text("The build."),
        stepId=text("The step that made it."),
        stepName=text("That step's name."),
        path=text("Its path in the workspace."),
        size=number("Bytes."),
        sha256=text("Digest of the bytes; empty once retention has deleted them."),
        mode=text("Permission bits, octal."),
        createdAt=time("When it was kept."),
    ),
    "Kept": thing(
        path=text("The path."),
        sha256=text("Digest of the bytes as stored."),
        size=number("Bytes as stored."),
        mode=text("Permission bits, octal."),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path. `answers` are those that are not errors; `errors` the statuses of those that are."""

    tag: str
    summary: str
    about: str = ""
    query: Mapping[str, Json] = field(default_factory=dict)
    required_query: tuple[str, ...] = ()
    headers: Mapping[str, Json] = field(default_factory=dict)
    body: Json | None = None
    body_type: str = JSON
    answers: Mapping[int, tuple[str, str, Json | None]] = field(default_factory=dict)
    errors: tuple[int, ...] = ()


ERROR_WORDS = {
    400: "Something in the request is wrong; `details` lists every fault.",
    401: "A token is needed.",
    403: "Not allowed.",
    404: "There is no such thing, or the asker may not know of it.",
    410: "It was there, and retention has deleted it.",
    409: "It exists already, or its state does not allow this.",
    413: "Over a limit, which the sentence names.",
    415: "The body has the wrong type.",
    500: "The server failed.",
}
PAGE = {
    "limit": {"type": "integer", "default": 20},
    "offset": {"type": "integer", "default": 0},
}
STEP_TOKEN = {"X-Buildyard-Step-Token": text("The token that the claim gave.")}
REASON = thing(reason=text("Why; noted in the audit log."))
BYTES_BODY = {"type": "string", "format": "binary"}


def ok(about: str, schema: Json, media: str = JSON) -> dict[int, tuple[str, str, Json | None]]:
    """An answer 200."""
    return {200: (about, media, schema)}


def made(about: str, schema: Json) -> dict[int, tuple[str, str, Json | None]]:
    """An answer 201."""
    return {201: (about, JSON, schema)}


OPERATIONS: dict[str, dict[str, Operation]] = {
    "/api/projects": {
        "get": Operation(
            tag="Projects",
            summary="List an account's projects",
            query={"accountId": {"type": "string"}},
            required_query=("accountId",),
            answers=ok("The projects, newest first.", many(ref("Project"))),
            errors=(400, 404),
        ),
        "post": Operation(
            tag="Projects",
            summary="Make a project",
            about="Without tokens an unknown account is made too.",
            body=thing(
                ("accountId", "name"),
                accountId=text("The account that shall own it.", minLength=1),
                name=text("Name.", minLength=1, maxLength=100),
            ),
            answers=made("The project.", ref("Project")),
            errors=(400, 403, 404, 413, 415),
        ),
    },
    "/api/projects/{id}/workflows": {
        "get": Operation(
            tag="Workflows",
            summary="List a project's workflows",
            answers=ok("The workflows, newest first.", many(ref("Workflow"))),
            errors=(404,),
        ),
        "post": Operation(
            tag="Workflows",
            summary="Define a workflow",
            about="The same name again makes another workflow.",
            body=thing(
                ("name", "steps"),
                name=text("Name.", minLength=1, maxLength=100),
                steps=many(STEP_BODY),
            ),
            answers=made("The workflow.", ref("Workflow")),
            errors=(400, 403, 404, 413, 415),
        ),
    },
    "/api/projects/{id}/workflows/{workflowId}": {
        "get": Operation(
            tag="Workflows",
            summary="Read a workflow with its steps",
            about=EXTENSION,
            answers=ok("The workflow.", ref("Workflow")),
            errors=(404,),
        ),
    },
    "/api/projects/{id}/builds": {
        "get": Operation(
            tag="Builds",
            summary="List a project's builds",
            about="Newest first, at most 100 at a time.",
            query=PAGE,
            answers=ok("A page.", thing(builds=many(ref("Build")), pagination=PAGINATION)),
            errors=(400, 404),
        ),
        "post": Operation(
            tag="Builds",
            summary="Build a workflow",
            about="Without `repoUrl` there is no source; commit and branch are then only told. Local sources need the "
            "setting BUILDYARD_ALLOW_LOCAL_SOURCES.",
            body=thing(
                ("workflowId",),
                workflowId=text("The workflow, one of the same project.", minLength=1),
                commitHash=text("7 to 64 lower-case hexadecimal digits."),
                repoUrl=text("A git repository.", format="uri"),
                branch=text("A branch or tag."),
                commitMessage=text("What to show of the commit."),
                commitAuthor=text("Whom to show as author."),
            ),
            answers=made("The build.", ref("Build")),
            errors=(400, 403, 404, 413, 415),
        ),
    },
    "/api/docker-images": {
        "get": Operation(
            tag="Docker Images",
            summary="List images",
            query={"public": {"type": "boolean"}},
            answers=ok("The images that the asker may use.", many(ref("DockerImage"))),
            errors=(400,),
        ),
        "post": Operation(
            tag="Docker Images",
            summary="Name an image",
            body=thing(
                ("slug", "imageUrl"),
                slug=text("Its name here, unique on the server.", minLength=1, maxLength=50),
                imageUrl=text("docker://HOST/NAME:TAG, https://HOST/NAME:TAG, or an image reference.", format="uri"),
                public=truth("Whether all accounts may use it.", default=False),
            ),
            answers=made("The image.", ref("DockerImage")),
            errors=(400, 403, 409, 413, 415),
        ),
    },
    "/api/runner/claim": {
        "post": Operation(
            tag="Runner",
            summary="Take the next runnable step",
            about=f"Waits for one up to `wait` seconds. {EXTENSION}",
            body=thing(
                labels=many({"type": "string"}, "What the runner offers."),
                system=text("Its system, as in x86_64-linux."),
                wait=number("Seconds to wait, 0 to 60.", default=0),
            ),
            answers={
                200: (
                    "The step, held now. Run it: curl -s SCRIPTURL | BUILDYARD_STEP_TOKEN=TOKEN bash",
                    JSON,
                    thing(
                        stepId=text("The step."),
                        scriptUrl=text("Where its script is."),
                        token=text("What proves that the runner holds it."),
                        leaseSeconds={"type": "number", "description": "How long it is held without news."},
                    ),
                ),
                204: ("Nothing to do.", "", None),
            },
            errors=(400, 415),
        ),
    },
    "/api/runner/{stepId}": {
        "get": Operation(
            tag="Runner",
            summary="Get a step's script",
            about="Run it with: curl -s URL | bash. Looking changes nothing; the script claims the step when it runs.",
            answers=ok("The script.", text("Bash."), TEXT),
            errors=(404,),
        ),
    },
    "/api/runner/{stepId}/claim": {
        "post": Operation(
            tag="Runner",
            summary="Take a step",
            about=f"With the token of a held step, tells once more what belongs to it. {EXTENSION}",
            body=thing(token=text("The token, if the step is held already.")),
            answers=ok(
                "What the runner needs.",
                thing(
                    stepId=text("The step."),
                    buildId=text("Its build."),
                    token=text("What proves that the runner holds it."),
                    attempt=number("The number of this try."),
                    leaseSeconds={"type": "number", "description": "How long it is held without news."},
                    source=text("Where its source is.", enum=["git", "archive", "none"]),
                    repoUrl=text("The git repository."),
                    commitHash=text("The commit to check out."),
                    branch=text("The branch or tag, if no commit is named."),
                    shallow=truth("Whether the history may be left out."),
                    submodules=truth("Whether to fill submodules."),
                    inputs=truth("Whether earlier steps left inputs."),
                    secrets={"type": "object", "description": "Variables for its environment."},
                ),
            ),
            errors=(400, 404, 409, 415),
        ),
    },
    "/api/runner/{stepId}/revision": {
        "post": Operation(
            tag="Runner",
            summary="Tell which commit a branch is",
            about=f"The first one told is what all steps of the build check out. {EXTENSION}",
            headers=STEP_TOKEN,
            body=thing(("commitHash",), commitHash=text("A whole commit id.")),
            answers=ok("What to check out.", thing(commitHash=text("The commit of the build."))),
            errors=(400, 404, 409, 415),
        ),
    },
    "/api/runner/{stepId}/complete": {
        "post": Operation(
            tag="Runner",
            summary="Report a step's end",
            about="Without a token a queued step is claimed and finished at once. The same report again is answered "
            "alike; one that contradicts, or a token that no longer holds the step, gets 409.",
            body=thing(
                ("status",),
                status=text("How it ended.", enum=["success", "failed"]),
                logs=text("Its output, if none was streamed."),
                outputPaths=many({"type": "string"}, "What it made; noted in the audit log."),
                token=text(f"The token of the claim. {EXTENSION}"),
                exitStatus=number(f"The script's exit status. {EXTENSION}"),
                stage=text(f"Where it failed: run, source, inputs, outputs, interrupted, … {EXTENSION}"),
                artifacts=many(ref("Kept"), f"Outputs stored before. {EXTENSION}"),
                caches=many(ref("Kept"), f"Caches stored before. {EXTENSION}"),
            ),
            answers=ok(
                "What became of it.",
                thing(
                    success=truth("True."),
                    stepStatus=text("The step's status: PENDING, RUNNING, SUCCESS or FAILED."),
                    buildComplete=truth("Whether this ended the build."),
                ),
            ),
            errors=(400, 404, 409, 413, 415),
        ),
    },
    "/api/runner/{stepId}/logs": {
        "post": Operation(
            tag="Runner",
            summary="Send output",
            about=f"Also renews the lease, with no bytes too. Sending the same again changes nothing. {EXTENSION}",
            query={
                "command": number("0 for what comes before the script, 1 for the script.", default=0),
                "offset": number("The position of the first byte.", default=0),
            },
            headers=STEP_TOKEN,
            body=BYTES_BODY,
            body_type=BYTES,
            answers=ok(
                "How much is stored.",
                thing(size=number("Bytes of this log."), stop=truth("Whether the runner shall stop.")),
            ),
            errors=(400, 404, 409, 413, 415),
        ),
    },
    "/api/runner/{stepId}/artifacts/{path}": {
        "put": Operation(
            tag="Runner",
            summary="Store an output",
            about=f"It is kept once the report names it. {EXTENSION}",
            query={"mode": text("Permission bits, octal.")},
            headers=STEP_TOKEN,
            body=BYTES_BODY,
            body_type=BYTES,
            answers=ok("The receipt, for the report.", ref("Kept")),
            errors=(400, 404, 409, 413, 415),
        ),
    },
    "/api/runner/{stepId}/inputs": {
        "get": Operation(
            tag="Runner",
            summary="Get what earlier steps made",
            about=EXTENSION,
            headers=STEP_TOKEN,
            answers=ok("A tar file.", BYTES_BODY, TAR),
            errors=(404, 409),
        ),
    },
    "/api/runner/{stepId}/source": {
        "get": Operation(
            tag="Runner",
            summary="Get an uploaded source",
            about=EXTENSION,
            headers=STEP_TOKEN,
            answers=ok("A tar file.", BYTES_BODY, TAR),
            errors=(404, 409),
        ),
    },
    "/api/runner/{stepId}/caches": {
        "get": Operation(
            tag="Runner",
            summary="Get a cache",
            about=EXTENSION,
            query={"path": text("The folder.")},
            required_query=("path",),
            headers=STEP_TOKEN,
            answers={**ok("A tar file.", BYTES_BODY, TAR), 204: ("Nothing is stored.", "", None)},
            errors=(400, 404, 409),
        ),
        "put": Operation(
            tag="Runner",
            summary="Store a cache",
            about=f"A tar file; it is kept once the report names it. {EXTENSION}",
            query={"path": text("The folder.")},
            required_query=("path",),
            headers=STEP_TOKEN,
            body=BYTES_BODY,
            body_type=BYTES,
            answers=ok("The receipt, for the report.", ref("Kept")),
            errors=(400, 404, 409, 413, 415),
        ),
    },
    "/api/audit-logs": {
        "get": Operation(
            tag="Audit",
            summary="Read the audit log",
            about=f"Newest first, at most 1000 at a time. Actions: {', '.join(ACTIONS)}.",
            query={
                "projectId": {"type": "string"},
                "action": {"type": "string"},
                "limit": {"type": "integer", "default": 100},
                "offset": {"type": "integer", "default": 0},
            },
            answers=ok("A page.", thing(auditLogs=many(ref("AuditLog")), pagination=PAGINATION)),
            errors=(400, 403, 404),
        ),
    },
    "/api/builds": {
        "get": Operation(
            tag="Builds",
            summary="List all builds",
            about=f"Newest first, at most 100 at a time. {EXTENSION}",
            query=PAGE,
            answers=ok("A page.", thing(builds=many(ref("Build")), pagination=PAGINATION)),
            errors=(400,),
        ),
    },
    "/api/builds/{id}": {
        "get": Operation(
            tag="Builds",
            summary="Read a build",
            about=EXTENSION,
            answers=ok("The build.", ref("Build")),
            errors=(404,),
        ),
    },
    "/api/builds/{id}/steps": {
        "get": Operation(
            tag="Builds",
            summary="List a build's steps",
            about=EXTENSION,
            answers=ok("The steps.", thing(steps=many(ref("Step")))),
            errors=(404,),
        ),
    },
    "/api/builds/{id}/artifacts": {
        "get": Operation(
            tag="Builds",
            summary="List a build's artifacts",
            about=EXTENSION,
            query={"limit": {"type": "integer", "default": 100}, "cursor": {"type": "string"}},
            answers=ok(
                "A page.",
                thing(artifacts=many(ref("Artifact")), cursor=text("Asks for the next page; left out on the last.")),
            ),
            errors=(400, 404),
        ),
    },
    "/api/builds/{id}/cancel": {
        "post": Operation(
            tag="Builds",
            summary="Stop a build",
            about=f"A finished build stays as it is. {EXTENSION}",
            body=REASON,
            answers=ok("The build.", ref("Build")),
            errors=(400, 403, 404, 415),
        ),
    },
    "/api/builds/{id}/retry": {
        "post": Operation(
            tag="Builds",
            summary="Build the same again",
            about=EXTENSION,
            body=REASON,
            answers=made("The new build.", ref("Build")),
            errors=(400, 403, 404, 415),
        ),
    },
    "/api/steps/{id}": {
        "get": Operation(
            tag="Steps",
            summary="Read a step",
            about=EXTENSION,
            answers=ok("The step.", ref("Step")),
            errors=(404,),
        ),
    },
    "/api/steps/{id}/logs": {
        "get": Operation(
            tag="Steps",
            summary="Read a step's log",
            about="Text; ranges of bytes work. `Accept: text/event-stream` follows it by server-sent events, "
            f"`Accept: application/x-ndjson` gives lines as JSON. {EXTENSION}",
            query={
                "follow": text("1: go on until the step has ended."),
                "tail": number("Only so many last lines."),
                "format": text("jsonl: lines as JSON."),
            },
            answers=ok("The log.", text("What was written."), TEXT),
            errors=(400, 404),
        ),
    },
    "/api/artifacts/{id}": {
        "get": Operation(
            tag="Steps",
            summary="Get an artifact",
            about=f"Ranges of bytes work. {EXTENSION}",
            answers=ok("Its bytes.", BYTES_BODY, BYTES),
            errors=(404, 410),
        ),
    },
}


def document(server: str) -> Json:
    """The whole description."""
    return {
        "openapi": "3.0.0",
        "info": {
            "title": "Build Server API",
            "version": VERSION,
            "description": "Projects, workflows of container steps, builds, and scripts that run steps anywhere.",
        },
        "servers": [{"url": server}],
        "paths": {
            path: {method: _operation(path, one) for method, one in operations.items()}
            for path, operations in OPERATIONS.items()
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tags())],
    }


def _tags() -> list[str]:
    return [one.tag for operations in OPERATIONS.values() for one in operations.values()]


def _operation(path: str, one: Operation) -> Json:
    parameters = [
        {"in": "path", "name": name[1:-1], "required": True, "schema": {"type": "string"}}
        for name in path.split("/")
        if name.startswith("{")
    ]
    parameters += [
        {"in": "query", "name": name, "schema": schema, **({"required": True} if name in one.required_query else {})}
        for name, schema in one.query.items()
    ]
    parameters += [
        {"in": "header", "name": name, "required": True, "schema": schema} for name, schema in one.headers.items()
    ]
    return {
        "summary": one.summary,
        "tags": [one.tag],
        **({"description": one.about} if one.about else {}),
        **({"parameters": parameters} if parameters else {}),
        **({"requestBody": _body(one)} if one.body is not None else {}),
        "responses": {**_answers(one), **_errors(one)},
    }


def _body(one: Operation) -> Json:
    assert one.body is not None
    return {"required": "required" in one.body, "content": {one.body_type: {"schema": one.body}}}


def _answers(one: Operation) -> Json:
    return {
        str(status): {"description": about, **({"content": {media: {"schema": schema}}} if schema else {})}
        for status, (about, media, schema) in one.answers.items()
    }


def _errors(one: Operation) -> Json:
    return {
        str(status): {"description": ERROR_WORDS[status], "content": {JSON: {"schema": ref("Error")}}}
        for status in sorted({*one.errors, 401, 500})
    }
