"""What runner scripts say: claims, output, files, reports."""

from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from buildyard.apis.build_server import mapping, requests, schemas
from buildyard.apis.build_server.auth import BYTES
from buildyard.apis.build_server.bodies import refuse
from buildyard.apis.build_server.routes.api import Api, answer, require_type
from buildyard.apis.build_server.runner_script import runner_script
from buildyard.apis.http import MIB, body_of, stream_of
from buildyard.domain.errors import Fault
from buildyard.domain.ids import Sha256
from buildyard.domain.paths import check_path, normal
from buildyard.engine import runner_files, runner_results, runners

TOKEN = "x-buildyard-step-token"  # noqa: S105 - the name of a header
CHUNK = 4 * MIB
_TAR = "application/x-tar"


class RunnerRoutes:
    """The handlers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._engine = api.engine

    async def script(self, request: Request) -> Response:
        """`GET /api/runner/{stepId}`: changes nothing."""
        actor = await self._api.actor(request)
        plan = await self._engine.read(runners.plan_of_step, actor, _step(request))
        allow_local = self._engine.policy.allow_local_sources
        text = runner_script(plan, server=self._api.config.public_url, allow_local=allow_local)
        return Response(text, headers={"cache-control": "no-store"}, media_type="text/plain")

    async def claim_next(self, request: Request) -> Response:
        """`POST /api/runner/claim`: the step whose turn it is, or 204."""
        actor = await self._api.actor(request)
        wanted = await self._api.json(request, requests.wanted_step)
        found = await runners.claim_next_step(self._engine, actor, wanted.offer, wait_s=wanted.wait_s)
        if found is None:
            return Response(status_code=204)
        uid, token = found
        url = f"{self._api.config.public_url}/api/runner/{uid}"
        lease = self._engine.policy.lease_seconds
        return answer(schemas.NextStep(step_id=uid, script_url=url, token=token, lease_seconds=lease))

    async def claim(self, request: Request) -> Response:
        """`POST /api/runner/{stepId}/claim`, as JSON or, for scripts, as lines."""
        actor = await self._api.actor(request)
        token = await self._api.json(request, requests.held_token)
        hold = await runners.claim_step(self._engine, actor, _step(request), token=token)
        claim = mapping.claim(hold, lease_seconds=self._engine.policy.lease_seconds)
        if request.headers.get("accept", "").startswith("text/plain"):
            lines = mapping.claim_lines(claim)
            return Response(lines, headers={"cache-control": "no-store"}, media_type="text/plain")
        return answer(claim)

    async def pin(self, request: Request) -> Response:
        """`POST /api/runner/{stepId}/revision`."""
        actor = await self._api.actor(request)
        commit = await self._api.json(request, requests.found_commit)
        pinned = await runners.pin_commit(self._engine, actor, _step(request), _token(request), commit)
        return answer(schemas.Pinned(commit_hash=pinned))

    async def complete(self, request: Request) -> Response:
        """`POST /api/runner/{stepId}/complete`."""
        actor = await self._api.actor(request)
        uid = _step(request)
        await self._engine.read(runners.plan_of_step, actor, uid)
        report = await self._api.json(request, requests.completion)
        return answer(mapping.completed(await runner_results.complete_step(self._engine, actor, uid, report)))

    async def add_log(self, request: Request) -> Response:
        """`POST /api/runner/{stepId}/logs?command=&offset=`."""
        actor = await self._api.actor(request)
        require_type(request, BYTES)
        faults: list[Fault] = []
        query = request.query_params
        number, offset = (requests.whole(query, name, 0, faults) for name in ("command", "offset"))
        refuse(faults)
        data = await body_of(request, CHUNK)
        heard = await runners.add_output(
            self._engine, actor, _step(request), _token(request), number=number, offset=offset, data=data
        )
        return answer(schemas.Stored(size=heard.size, stop=heard.stop))

    async def put_output(self, request: Request) -> Response:
        """`PUT /api/runner/{stepId}/artifacts/{path}?mode=`."""
        actor = await self._api.actor(request)
        require_type(request, BYTES)
        path = _path(request)
        info = await runner_files.store_output(self._engine, actor, _step(request), _token(request), stream_of(request))
        return answer(mapping.kept(path, info, request.query_params.get("mode")))

    async def get_inputs(self, request: Request) -> Response:
        """`GET /api/runner/{stepId}/inputs`."""
        actor = await self._api.actor(request)
        found = await self._engine.read(runner_files.inputs_of_step, actor, _step(request), _token(request))
        return StreamingResponse(runner_files.read_inputs(self._engine, found), media_type=_TAR)

    async def get_source(self, request: Request) -> Response:
        """`GET /api/runner/{stepId}/source`."""
        actor = await self._api.actor(request)
        hold = await self._engine.read(runners.open_hold, actor, _step(request), _token(request))
        return StreamingResponse(await runner_files.read_source(self._engine, hold), media_type=_TAR)

    async def get_cache(self, request: Request) -> Response:
        """`GET /api/runner/{stepId}/caches?path=`, or 204."""
        actor = await self._api.actor(request)
        path = requests.words(request.query_params, "path", required=True) or ""
        found = await self._engine.run(
            runner_files.find_step_cache, actor, _step(request), _token(request), normal(path)
        )
        if found is None:
            return Response(status_code=204)
        pieces = self._engine.blobs.read(Sha256(found.sha256))
        return StreamingResponse(runner_files.unpacked(pieces), media_type=_TAR)

    async def put_cache(self, request: Request) -> Response:
        """`PUT /api/runner/{stepId}/caches?path=`."""
        actor = await self._api.actor(request)
        require_type(request, BYTES)
        path = normal(requests.words(request.query_params, "path", required=True) or "")
        info = await runner_files.store_step_cache(
            self._engine, actor, _step(request), _token(request), path, stream_of(request)
        )
        return answer(mapping.kept(path, info))


def _step(request: Request) -> str:
    return requests.uid(request.path_params["stepId"], "step")


def _token(request: Request) -> str:
    return request.headers.get(TOKEN, "")


def _path(request: Request) -> str:
    """The path of an output; one that is no UTF-8 is refused."""
    path: str = request.path_params["path"]
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        refuse([Fault("path", "must be valid Unicode", "unicode")])
    refuse(check_path(path, "path"))
    return normal(path)
