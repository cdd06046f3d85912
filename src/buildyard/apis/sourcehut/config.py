"""How this API answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcehutConfig:
    """Limits and choices of this API; `own_only`: its lists hold no builds that other APIs started."""

    body_bytes: int
    own_only: bool = False
