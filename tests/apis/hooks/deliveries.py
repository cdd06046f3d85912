"""Deliveries in the shapes that the forges document, cut down to what matters and a little more."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from buildyard.domain.hooks import Forge
from buildyard.domain.ids import SECOND

NOBODY = "0" * 40
BEFORE = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
AFTER = "0d1a26e67d8f5eaf1f6ba5c57fc3c7d91ac0fd1c"
MIDDLE = "1481a2de7b2a7d02428ad93446ab166be7793fbb"
SECRET = "open sesame, please"
SIGNING = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()

Json = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What is told: the value of the event header and the document."""

    event: str
    document: Json

    @property
    def body(self) -> bytes:
        return json.dumps(self.document).encode()


# --- GitHub ---------------------------------------------------------------------------------------


def github_repository(full_name: str = "Codertocat/Hello-World", key: int = 186853002) -> Json:
    return {
        "id": key,
        "full_name": full_name,
        "private": False,
        "owner": {"login": full_name.partition("/")[0], "id": 21031067},
        "html_url": f"https://github.com/{full_name}",
        "git_url": f"git://github.com/{full_name}.git",
        "ssh_url": f"git@github.com:{full_name}.git",
        "clone_url": f"https://github.com/{full_name}.git",
        "default_branch": "master",
    }


def github_commit(key: str, message: str, **files: list[str]) -> Json:
    who = {"name": "Ada Byron", "email": "ada@example.org", "username": "ada"}
    return {
        "id": key,
        "tree_id": NOBODY,
        "distinct": True,
        "message": message,
        "timestamp": "2026-05-15T15:20:41+02:00",
        "url": f"https://github.com/Codertocat/Hello-World/commit/{key}",
        "author": who,
        "committer": {"name": "GitHub", "email": "noreply@github.com", "username": "web-flow"},
        "added": files.get("added", []),
        "removed": files.get("removed", []),
        "modified": files.get("modified", []),
    }


def github_push(ref: str = "refs/heads/main", *, message: str = "Say hello", **more: Any) -> Told:
    commits = [
        github_commit(MIDDLE, "Begin", added=["src/hello.c"]),
        github_commit(AFTER, message, modified=["docs/hello.md"]),
    ]
    document = {
        "ref": ref,
        "before": BEFORE,
        "after": AFTER,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": "https://github.com/Codertocat/Hello-World/compare/6113728f27ae...0d1a26e67d8f",
        "commits": commits,
        "head_commit": commits[-1],
        "repository": github_repository(),
        "pusher": {"name": "Codertocat", "email": "c@example.org"},
        "sender": {"login": "Codertocat", "id": 21031067},
    }
    return Told("push", {**document, **more})


def github_pull(action: str = "opened", *, head_repository: Json | None = None, **more: Any) -> Told:
    base = github_repository()
    head = {"label": "Codertocat:changes", "ref": "changes", "sha": AFTER, "repo": head_repository or base}
    document = {
        "action": action,
        "number": 2,
        "pull_request": {
            "number": 2,
            "state": "open",
            "title": "Update the README",
            "html_url": "https://github.com/Codertocat/Hello-World/pull/2",
            "head": {**head, **more},
            "base": {"label": "Codertocat:master", "ref": "master", "sha": BEFORE, "repo": base},
        },
        "repository": base,
        "sender": {"login": "Codertocat", "id": 21031067},
    }
    return Told("pull_request", document)


# --- Gitea, Forgejo -------------------------------------------------------------------------------


def gitea_push(ref: str = "refs/heads/main", *, message: str = "Say hello", **more: Any) -> Told:
    who = {"name": "Ada Byron", "email": "ada@example.org", "username": "ada"}
    commit = {
        "id": AFTER,
        "message": f"{message}\n",
        "url": f"https://git.example.org/ada/hello/commit/{AFTER}",
        "author": who,
        "committer": who,
        "verification": None,
        "timestamp": "2026-03-13T13:52:11-04:00",
        "added": ["docs/hello.md"],
        "removed": [],
        "modified": [],
    }
    document = {
        "ref": ref,
        "before": BEFORE,
        "after": AFTER,
        "compare_url": "https://git.example.org/ada/hello/compare/a...b",
        "commits": [commit],
        "total_commits": 1,
        "head_commit": commit,
        "repository": gitea_repository(),
        "pusher": {"id": 1, "login": "ada"},
        "sender": {"id": 1, "login": "ada", "username": "ada"},
    }
    return Told("push", {**document, **more})


def gitea_repository() -> Json:
    return {
        "id": 140,
        "name": "hello",
        "full_name": "ada/hello",
        "html_url": "https://git.example.org/ada/hello",
        "ssh_url": "ssh://git@git.example.org:2222/ada/hello.git",
        "clone_url": "https://git.example.org/ada/hello.git",
        "updated_at": "2026-03-13T17:51:54Z",
    }


def gitea_pull(action: str = "synchronized", **head: Any) -> Told:
    repository = gitea_repository()
    told = github_pull(action, head_repository=repository, **head)
    return Told("pull_request", {**told.document, "repository": repository})


# --- GitLab ---------------------------------------------------------------------------------------


def gitlab_push(ref: str = "refs/heads/main", *, message: str = "Say hello", **more: Any) -> Told:
    commit = {
        "id": AFTER,
        "message": message,
        "title": message,
        "timestamp": "2026-01-03T23:36:29+02:00",
        "url": f"https://gitlab.example.org/mike/diaspora/-/commit/{AFTER}",
        "author": {"name": "Ada Byron", "email": "ada@example.org"},
        "added": ["CHANGELOG"],
        "modified": ["app/controller/application.rb"],
        "removed": [],
    }
    document = {
        "object_kind": "push",
        "event_name": "push",
        "before": BEFORE,
        "after": AFTER,
        "ref": ref,
        "checkout_sha": AFTER,
        "user_id": 4,
        "user_name": "John Smith",
        "user_username": "jsmith",
        "project_id": 15,
        "project": gitlab_project(),
        "commits": [commit],
        "total_commits_count": 1,
    }
    event = "Tag Push Hook" if ref.startswith("refs/tags/") else "Push Hook"
    return Told(event, {**document, **more})


def gitlab_project() -> Json:
    return {
        "id": 15,
        "name": "Diaspora",
        "web_url": "https://gitlab.example.org/mike/diaspora",
        "git_ssh_url": "git@gitlab.example.org:mike/diaspora.git",
        "git_http_url": "https://gitlab.example.org/mike/diaspora.git",
        "namespace": "Mike",
        "path_with_namespace": "mike/diaspora",
        "default_branch": "main",
    }


def gitlab_merge(action: str = "open", **more: Any) -> Told:
    attributes = {
        "id": 99,
        "iid": 7,
        "target_branch": "main",
        "source_branch": "ms-viewport",
        "source_project_id": 14,
        "target_project_id": 14,
        "title": "MS-Viewport",
        "state": "opened",
        "url": "https://gitlab.example.org/mike/diaspora/-/merge_requests/7",
        "last_commit": {"id": AFTER, "message": "fixed readme", "timestamp": "2026-01-03T23:36:29+02:00"},
        "action": action,
    }
    document = {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": {"id": 1, "name": "Administrator", "username": "root", "email": "admin@example.org"},
        "project": gitlab_project(),
        "object_attributes": {**attributes, **more},
        "labels": [],
        "changes": {},
    }
    return Told("Merge Request Hook", document)


# --- Bitbucket Cloud ------------------------------------------------------------------------------


def bitbucket_repository(full_name: str = "team/hello") -> Json:
    return {
        "type": "repository",
        "full_name": full_name,
        "uuid": "{673a6070-3421-46c9-9d48-90745f7bfe8e}",
        "links": {"html": {"href": f"https://bitbucket.org/{full_name}"}},
        "scm": "git",
    }


def bitbucket_commit(key: str, message: str) -> Json:
    return {
        "type": "commit",
        "hash": key,
        "author": {"raw": "Ada Byron <ada@example.org>", "user": {"nickname": "ada"}},
        "message": message,
        "date": "2026-06-09T03:34:49+00:00",
        "parents": [],
        "links": {"html": {"href": f"https://bitbucket.org/team/hello/commits/{key}"}},
    }


def bitbucket_push(name: str = "main", kind: str = "branch", *, message: str = "Say hello", **more: Any) -> Told:
    head = bitbucket_commit(AFTER, message)
    change = {
        "new": {"type": kind, "name": name, "target": head, "links": {}},
        "old": {"type": kind, "name": name, "target": bitbucket_commit(BEFORE, "Before"), "links": {}},
        "links": {"html": {"href": "https://bitbucket.org/team/hello/branches/compare/c4b2"}},
        "created": False,
        "forced": False,
        "closed": False,
        "commits": [head, bitbucket_commit(MIDDLE, "Begin")],
        "truncated": False,
    }
    return Told(
        "repo:push",
        {
            "actor": {"type": "user", "nickname": "ada", "display_name": "Ada Byron"},
            "repository": bitbucket_repository(),
            "push": {"changes": [{**change, **more}]},
        },
    )


def bitbucket_pull(event: str = "pullrequest:created", *, source: str = "team/hello") -> Told:
    return Told(
        event,
        {
            "actor": {"type": "user", "nickname": "ada"},
            "repository": bitbucket_repository(),
            "pullrequest": {
                "id": 1,
                "title": "Title of the pull request",
                "state": "OPEN",
                "source": {
                    "branch": {"name": "branch2"},
                    "commit": {"hash": AFTER[:12]},
                    "repository": bitbucket_repository(source),
                },
                "destination": {
                    "branch": {"name": "main"},
                    "commit": {"hash": BEFORE[:12]},
                    "repository": bitbucket_repository(),
                },
                "links": {"html": {"href": "https://bitbucket.org/team/hello/pull-requests/1"}},
            },
        },
    )


# --- Bitbucket Server -----------------------------------------------------------------------------


def server_repository(key: int = 84) -> Json:
    return {
        "slug": "repository",
        "id": key,
        "name": "repository",
        "scmId": "git",
        "project": {"key": "PROJ", "id": 84, "name": "project"},
        "links": {
            "clone": [
                {"href": "ssh://git@bb.example.org:7999/proj/repository.git", "name": "ssh"},
                {"href": "https://bb.example.org/scm/proj/repository.git", "name": "http"},
            ],
            "self": [{"href": "https://bb.example.org/projects/PROJ/repos/repository/browse"}],
        },
    }


def server_push(ref: str = "refs/heads/main", *, kind: str = "UPDATE", message: str = "", **more: Any) -> Told:
    commit = {
        "id": AFTER,
        "displayId": AFTER[:11],
        "author": {"name": "Administrator", "emailAddress": "admin@example.com"},
        "committer": {"name": "Administrator", "emailAddress": "admin@example.com"},
        "committerTimestamp": 1669860594000,
        "message": message,
        "parents": [{"id": BEFORE}],
    }
    change = {
        "ref": {"id": ref, "displayId": ref.split("/", 2)[2], "type": "BRANCH"},
        "refId": ref,
        "fromHash": BEFORE,
        "toHash": AFTER,
        "type": kind,
    }
    document = {
        "eventKey": "repo:refs_changed",
        "date": "2026-09-19T09:45:32+1000",
        "actor": {"name": "admin", "emailAddress": "admin@example.com", "id": 1, "displayName": "Administrator"},
        "repository": server_repository(),
        "changes": [{**change, **more}],
        **({"commits": [commit], "toCommit": commit} if message else {}),
    }
    return Told("repo:refs_changed", document)


def server_pull(event: str = "pr:opened", *, source: int = 84) -> Told:
    return Told(
        event,
        {
            "eventKey": event,
            "date": "2026-09-19T09:58:11+1000",
            "actor": {"name": "admin", "displayName": "Administrator"},
            "pullRequest": {
                "id": 11,
                "version": 1,
                "title": "A cool pull request",
                "state": "OPEN",
                "fromRef": {
                    "id": "refs/heads/comment-pr",
                    "displayId": "comment-pr",
                    "latestCommit": AFTER,
                    "repository": server_repository(source),
                },
                "toRef": {
                    "id": "refs/heads/main",
                    "displayId": "main",
                    "latestCommit": BEFORE,
                    "repository": server_repository(),
                },
                "links": {"self": [{"href": "https://bb.example.org/projects/PROJ/repos/repository/pull-requests/11"}]},
            },
        },
    )


# --- all ------------------------------------------------------------------------------------------

PUSHES: dict[Forge, Callable[..., Told]] = {
    Forge.GITHUB: github_push,
    Forge.GITLAB: gitlab_push,
    Forge.GITEA: gitea_push,
    Forge.FORGEJO: gitea_push,
    Forge.BITBUCKET: bitbucket_push,
    Forge.BITBUCKET_SERVER: server_push,
}
PULLS: dict[Forge, Callable[..., Told]] = {
    Forge.GITHUB: github_pull,
    Forge.GITLAB: gitlab_merge,
    Forge.GITEA: gitea_pull,
    Forge.FORGEJO: gitea_pull,
    Forge.BITBUCKET: bitbucket_pull,
    Forge.BITBUCKET_SERVER: server_pull,
}
SOURCES: dict[Forge, str] = {
    Forge.GITHUB: "ssh://git@github.com/codertocat/hello-world",
    Forge.GITLAB: "https://gitlab.example.org/mike/diaspora.git",
    Forge.GITEA: "ssh://git@git.example.org:2222/ada/hello.git",
    Forge.FORGEJO: "https://git.example.org/ada/hello",
    Forge.BITBUCKET: "git@bitbucket.org:team/hello.git",
    Forge.BITBUCKET_SERVER: "https://bb.example.org/scm/proj/repository.git",
}
"""How pipelines name the repositories above, not always as the forge does."""

EVENT_HEADER = {
    Forge.GITHUB: "X-GitHub-Event",
    Forge.GITLAB: "X-Gitlab-Event",
    Forge.GITEA: "X-Gitea-Event",
    Forge.FORGEJO: "X-Forgejo-Event",
    Forge.BITBUCKET: "X-Event-Key",
    Forge.BITBUCKET_SERVER: "X-Event-Key",
}


def hex_of(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed(forge: Forge, event: str, body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers of a delivery as the forge sends it."""
    proof: Mapping[Forge, tuple[str, str]] = {
        Forge.GITHUB: ("X-Hub-Signature-256", f"sha256={hex_of(body, secret)}"),
        Forge.GITLAB: ("X-Gitlab-Token", secret),
        Forge.GITEA: ("X-Gitea-Signature", hex_of(body, secret)),
        Forge.FORGEJO: ("X-Forgejo-Signature", hex_of(body, secret)),
        Forge.BITBUCKET: ("X-Hub-Signature", f"sha256={hex_of(body, secret)}"),
        Forge.BITBUCKET_SERVER: ("X-Hub-Signature", f"sha256={hex_of(body, secret)}"),
    }
    return {"Content-Type": "application/json", EVENT_HEADER[forge]: event, **dict([proof[forge]])}


def standard_signature(body: bytes, key: str, stamp: int, secret: str = SIGNING) -> str:
    """A signature as GitLab makes it with a signing token."""
    secret_bytes = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{key}.{stamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret_bytes, content, hashlib.sha256).digest()).decode()


def seconds(moment: int) -> int:
    return moment // SECOND
