from __future__ import annotations

from support.following import client, follow, interposer, through

__all__ = ["client", "follow", "interposer", "through"]
