from __future__ import annotations

from support.following import client, interposer, through

__all__ = ["client", "interposer", "through"]
