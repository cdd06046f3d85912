"""Images: name them, list them."""

import re

from buildyard.domain.access import Actor, Permission, may_use_of, require_global
from buildyard.domain.errors import Conflict, Fault, Invalid
from buildyard.store import audit, images
from buildyard.store.images import Image
from buildyard.store.transactions import Transaction

REFERENCE = re.compile(
    r"(?P<host>(?:[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)/)?"
    r"(?P<name>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)
"""An image reference as container registries have it (Distribution specification, "Pulling manifests")."""


def image_reference(url: str) -> str:
    """The bare reference that an address stands for (`docker://`, `https://` or none before it); Invalid otherwise."""
    bare = url.removeprefix("docker://").removeprefix("https://")
    if len(url) > 1000 or not REFERENCE.fullmatch(bare):
        message = "must be docker://HOST/NAME:TAG, https://HOST/NAME:TAG or an image reference"
        raise Invalid(message, (Fault("imageUrl", message, "invalid_image"),))
    return bare


async def create_image(tx: Transaction, actor: Actor, *, slug: str, url: str, public: bool) -> Image:
    """Name an image; its slug is unique on the server."""
    require_global(actor, Permission.CREATE_IMAGE, "name images")
    image_reference(url)
    image = await images.add(tx, slug=slug, account=actor.account, url=url, public=public)
    if image is None:
        raise Conflict(f"there is an image {slug} already")
    await audit.add(tx, actor, "image.create", image.uid, details={"slug": slug, "imageUrl": url, "public": public})
    return image


async def list_images(tx: Transaction, actor: Actor, *, public: bool | None) -> list[Image]:
    """The images that the actor may use, newest first; `public` asks for those that are, or are not."""
    return [
        image
        for image in await images.search(tx)
        if may_use_of(actor, image.account, public=image.public) and (public is None or image.public is public)
    ]
