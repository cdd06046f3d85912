"""Images: names for container images."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from buildyard.domain.ids import AccountId, ImageId, Moment, Uid
from buildyard.store.statements import Row, Statement, given
from buildyard.store.tables import images
from buildyard.store.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A slug for a container image's address; one that is not public is seen by its account only."""

    id: ImageId
    uid: Uid
    slug: str
    account: AccountId | None
    url: str
    public: bool
    created_at: Moment


_IMAGE = (
    images.c.id,
    images.c.uid,
    images.c.slug,
    images.c.account,
    images.c.url,
    images.c.public,
    images.c.created_at,
)
BY_SLUG = Statement(select(*_IMAGE).where(images.c.slug == given("called")))
ALL = Statement(select(*_IMAGE).order_by(images.c.id.desc()))
ADD = Statement(insert(images).values({c.name: given(c.name) for c in images.columns}).on_conflict_do_nothing())


def _image(row: Row) -> Image:
    key, uid, slug, account, url, public, created_at = row
    return Image(id=key, uid=uid, slug=slug, account=account, url=url, public=bool(public), created_at=created_at)


async def find(tx: Transaction, slug: str) -> Image | None:
    """The image of this slug."""
    row = await tx.fetch_one(BY_SLUG, called=slug)
    return _image(row) if row else None


async def search(tx: Transaction) -> list[Image]:
    """All images, newest first."""
    return [_image(row) for row in await tx.fetch(ALL)]


async def add(tx: Transaction, *, slug: str, account: AccountId | None, url: str, public: bool) -> Image | None:
    """Name an image, or None if the slug is taken."""
    (key,) = await tx.allocate("images")
    made = await tx.execute(
        ADD, id=key, uid=tx.fresh_uid(), slug=slug, account=account, url=url, public=int(public), created_at=tx.now
    )
    return await find(tx, slug) if made else None
