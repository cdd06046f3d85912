"""What use-cases give back and others define, by name, for those who may import neither the store nor the ports."""

from buildyard.ports import BlobInfo, Line
from buildyard.store.attempts import GrantFacts
from buildyard.store.audit import Entry
from buildyard.store.builds import BuildView, Revision
from buildyard.store.images import Image
from buildyard.store.kept import Artifact
from buildyard.store.pipelines import Pipeline
from buildyard.store.projects import Project

__all__ = [
    "Artifact",
    "BlobInfo",
    "BuildView",
    "Entry",
    "GrantFacts",
    "Image",
    "Line",
    "Pipeline",
    "Project",
    "Revision",
]
