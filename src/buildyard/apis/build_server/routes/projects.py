"""Projects and their workflows."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from buildyard.apis.build_server import mapping, requests
from buildyard.apis.build_server.bodies import refuse
from buildyard.apis.build_server.requests import NewWorkflow
from buildyard.apis.build_server.routes.api import Api, answer
from buildyard.domain.access import Actor
from buildyard.domain.errors import NotFound
from buildyard.engine import pipelines, projects

DEFINED_BY = "build_server"


class ProjectRoutes:
    """The handlers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._engine = api.engine

    async def list_projects(self, request: Request) -> Response:
        """`GET /api/projects`. In open mode an account that is not there yet has no projects."""
        actor = await self._api.actor(request)
        account = requests.words(request.query_params, "accountId", required=True)
        try:
            found = await self._engine.read(projects.list_projects, actor, account)
        except NotFound:
            if not self._api.config.open:
                raise
            found = []
        return answer([mapping.project(one) for one in found])

    async def create_project(self, request: Request) -> Response:
        """`POST /api/projects`."""
        actor = await self._api.actor(request)
        wanted = await self._api.json(request, requests.project)
        made = await self._engine.run(
            projects.create_project, actor, wanted.account, wanted.name, make_account=self._api.config.open
        )
        return answer(mapping.project(made), 201)

    async def list_workflows(self, request: Request) -> Response:
        """`GET /api/projects/{id}/workflows`."""
        actor = await self._api.actor(request)
        project = requests.uid(request.path_params["id"], "project")
        found = await self._engine.read(pipelines.list_pipelines, actor, project)
        return answer([mapping.workflow(one, project) for one in found])

    async def create_workflow(self, request: Request) -> Response:
        """`POST /api/projects/{id}/workflows`."""
        actor = await self._api.actor(request)
        project = requests.uid(request.path_params["id"], "project")
        await self._engine.read(projects.get_project, actor, project)
        read = partial(requests.workflow, script_bytes=self._api.config.script_bytes)
        wanted = await self._api.json(request, read)
        if wanted.faults:
            await self._refuse(actor, wanted)
        made = await self._engine.run(
            pipelines.create_pipeline,
            actor,
            project,
            wanted.name,
            wanted.spec,
            defined_by=DEFINED_BY,
            field="dependsOn",
            known_images_only=True,
        )
        return answer(mapping.workflow(made, project), 201)

    async def _refuse(self, actor: Actor, wanted: NewWorkflow) -> None:
        """Tell all faults at once, those that only the database knows too."""
        known = {fault.path for fault in wanted.faults}
        images = await self._engine.read(pipelines.image_faults, actor, wanted.spec.jobs)
        news = [fault for fault in images if not known & {fault.path, fault.path.rpartition(".")[0]}]
        refuse([*wanted.faults, *news])

    async def get_workflow(self, request: Request) -> Response:
        """`GET /api/projects/{id}/workflows/{workflowId}`."""
        actor = await self._api.actor(request)
        project = requests.uid(request.path_params["id"], "project")
        uid = requests.uid(request.path_params["workflowId"], "workflow")
        found, spec = await self._engine.read(pipelines.get_pipeline, actor, project, uid)
        return answer(mapping.workflow(found, project, spec))
