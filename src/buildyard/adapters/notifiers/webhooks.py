"""Webhooks: a build as a JSON document, signed. The document is described in docs/telling.md and only ever grows."""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from buildyard.adapters.notifiers.posting import post
from buildyard.domain.ids import Moment, iso
from buildyard.domain.news import News
from buildyard.domain.notifications import WebhookTarget
from buildyard.domain.sources import shown_url
from buildyard.ports import Document, Notice, Outcome

SCHEMA = 1


class WebhookNotifier:
    """Posts to addresses that rules name. `allow_local`: private addresses, too."""

    def __init__(self, *, allow_local: bool, timeout_s: float = 20.0) -> None:
        self._allow_local = allow_local
        self._timeout_s = timeout_s

    async def send(self, notice: Notice) -> Outcome:
        """See Notifier."""
        assert isinstance(notice.target, WebhookTarget)
        if isinstance(notice.written, Document):
            return await self._post(notice.target.url, notice.written.headers, notice.written.body)
        assert notice.news is not None
        body = json.dumps(document(notice.news), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        sent_at = str(int(time.time()))
        headers = {
            "X-Buildyard-Event": event_name(notice.news),
            "X-Buildyard-Delivery": notice.uid,
            "X-Buildyard-Timestamp": sent_at,
        }
        if notice.credential:
            headers["X-Buildyard-Signature"] = f"sha256={signature(notice.credential, sent_at, body)}"
        return await self._post(notice.target.url, headers, body)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        return await post(url, headers, body, allow_local=self._allow_local, timeout_s=self._timeout_s)


def signature(secret: str, sent_at: str, body: bytes) -> str:
    """HMAC-SHA256 of the timestamp, a dot and the exact body."""
    return hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()


def event_name(news: News) -> str:
    """`build.started`, `build.finished`."""
    return f"build.{news.event}"


def document(news: News) -> dict[str, object]:
    """The JSON document of a build."""
    return {
        "schema": SCHEMA,
        "event": event_name(news),
        "project": {"uid": news.project_uid, "slug": news.project},
        "pipeline": {"uid": news.pipeline_uid, "slug": news.pipeline, "name": news.pipeline_name},
        "build": {
            "uid": news.uid,
            "id": news.id,
            "number": news.number,
            "phase": news.phase.name.lower(),
            "result": None if news.result is None else news.result.word,
            "cause": news.cause,
            "detail": news.detail,
            "note": news.note,
            "restarts": news.restarts,
            "submitter": news.submitter,
            "link": news.link,
            "jobs": news.jobs,
            "failed_jobs": news.failures,
            "created_at": _time(news.created_at),
            "started_at": _time(news.started_at),
            "finished_at": _time(news.finished_at),
        },
        "source": {
            "repository": shown_url(news.repository),
            "branch": news.branch,
            "commit": news.commit,
            "message": news.message,
            "author": news.author,
        },
        "failed": [
            {
                "job": job.job,
                "step": job.step,
                "result": job.result.word,
                "cause": job.cause,
                "detail": job.detail,
            }
            for job in news.failed
        ],
    }


def _time(moment: Moment | None) -> str | None:
    return None if moment is None else iso(moment)
