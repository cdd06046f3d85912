"""Lists of builds hold what one may see, page after page."""

from apis.native.serving import Server

WORKFLOW = "jobs: {a: {run: 'true'}}"


async def test_a_page_is_full_however_many_builds_of_others_lie_between(server: Server) -> None:
    bob = await server.token("bob", "*")
    own = []
    for _ in range(3):
        own.append((await server.submit(WORKFLOW, project="his", by=bob)).body["id"])
        assert (await server.submit(WORKFLOW, project="hers")).status == 201

    first = (await server.call("GET", "/builds?limit=2", by=bob)).body["builds"]
    second = (await server.call("GET", "/builds?limit=2&offset=2", by=bob)).body["builds"]

    assert [one["id"] for one in first + second] == own[::-1]


async def test_builds_of_unlisted_projects_show_to_members_only(server: Server) -> None:
    build = (await server.submit(WORKFLOW, project="quiet")).body["id"]
    await server.publish("quiet", listed=False)
    bob = await server.token("bob", "*")

    assert (await server.call("GET", "/builds", by=bob)).body["builds"] == []
    assert (await server.call("GET", f"/builds/{build}", by=bob)).status == 200
    assert [one["id"] for one in (await server.call("GET", "/builds")).body["builds"]] == [build]
