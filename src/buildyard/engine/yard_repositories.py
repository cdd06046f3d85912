"""Reads the pipelines of a yard file: those with jobs, and those whose repository says what is built."""

from typing import Any

import yaml

from buildyard.domain.sources import check_source
from buildyard.domain.specs import PipelineSpec
from buildyard.domain.yard import YardPipeline
from buildyard.engine.document_fields import Bad, Read, Reading, below, pairs, truth
from buildyard.engine.workflow_files import WORKFLOW, definition

MANIFESTS = "manifests"


def names_manifests(node: yaml.Node) -> bool:
    """Whether a pipeline has the key that says so, whatever its value."""
    return isinstance(node, yaml.MappingNode) and any(name == MANIFESTS for name, _, _ in pairs(Reading(), node, ""))


def definition_of(
    reading: Reading, node: yaml.Node, path: str, values: dict[str, Any], *, allow_local: bool
) -> YardPipeline | None:
    """The pipeline, still without its name; None if there are faults, which are noted."""
    if values.get(MANIFESTS):
        return _of_repository(reading, node, path, values, allow_local=allow_local)
    made = definition(reading, node, path, values, matrix={}, allow_local=allow_local)
    return None if made is None else YardPipeline(slug="", spec=made.spec, source=made.source, notify=made.notify)


def _of_repository(
    reading: Reading, node: yaml.Node, path: str, values: dict[str, Any], *, allow_local: bool
) -> YardPipeline | None:
    source = values.get("source")
    if source is None:
        if not any(fault.path.startswith(f"{path}.source") for fault in reading.faults):
            reading.fault(node, below(path, "source"), "is missing: where do the manifests lie?")
        return None
    faults = check_source(source, below(path, "source"), allow_local=allow_local)
    for fault in faults:
        reading.fault(node, fault.path, fault.message, fault.code)
    if faults:
        return None
    notify = values.get("notify", ())
    return YardPipeline(slug="", spec=PipelineSpec(jobs=()), source=source, notify=notify, manifests=True)


def _yes(reading: Reading, node: yaml.Node, path: str) -> bool:
    if not truth(reading, node, path):
        raise Bad("must be true, or be left out")
    return True


REPOSITORY: dict[str, Read] = {"source": WORKFLOW["source"], "notify": WORKFLOW["notify"], MANIFESTS: _yes}
"""The keys of a pipeline whose repository says what is built, beside its triggers."""
