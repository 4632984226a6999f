"""Runs tests marked ``uml`` inside User-Mode Linux (being written)."""

from __future__ import annotations

import pytest


def unavailable_because() -> str:
    """Why User-Mode Linux cannot run here; empty when it can."""
    return ""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--uml", choices=("auto", "always", "never"), default="auto")
