"""What a user's scripts do: curl, with a token, in a shell."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.running import START_S, Yard
from needs import need_program

OVER = ("success", "failed", "timeout", "cancelled")


@dataclass
class Script:
    """Runs curl against a server, as its operator or with a token."""

    yard: Yard
    folder: Path
    token: str

    @classmethod
    async def of(cls, yard: Yard, folder: Path, *scopes: str) -> "Script":
        """One with a new token of these scopes."""
        need_program("curl")
        return cls(yard, folder, await yard.token(*(scopes or ("jobs:read", "jobs:write"))))

    async def curl(self, path: str, *options: str) -> tuple[int, str, bytes]:
        """Status, head and body of the answer."""
        head, body = self.folder / "head", self.folder / "body"
        url = path if path.startswith("http") else f"{self.yard.url}{path}"
        authorization = f"Authorization: token {self.token}"
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "-H", authorization, "-D", str(head), "-o", str(body), *options, url
        )
        async with asyncio.timeout(START_S):
            assert await process.wait() == 0
        told = head.read_text()
        return int(told.split()[1]), told.lower(), body.read_bytes() if body.exists() else b""

    async def submit(self, manifest: str, **fields: object) -> dict[str, Any]:
        """Submit a job as documented."""
        body = self.folder / "submission.json"
        body.write_text(json.dumps({"manifest": manifest, **fields}))
        options = ("-H", "Content-Type: application/json", "--data-binary", f"@{body}")
        status, _, answer = await self.curl("/api/jobs", *options)
        assert status == 200, answer
        made: dict[str, Any] = json.loads(answer)
        return made

    async def job(self, key: int) -> dict[str, Any]:
        """A job as it is now."""
        status, _, answer = await self.curl(f"/api/jobs/{key}")
        assert status == 200, answer
        found: dict[str, Any] = json.loads(answer)
        return found

    async def ended(self, key: int) -> dict[str, Any]:
        """A job once it is over, asked for again and again."""
        async with asyncio.timeout(180):
            while (found := await self.job(key))["status"] not in OVER:  # noqa: ASYNC110 - a client polls
                await asyncio.sleep(0.2)
        return found
