"""All checks, in the order of the table."""

from __future__ import annotations

from typing import Final

from conformance import (
    checks_add,
    checks_chain,
    checks_check,
    checks_del,
    checks_environment,
    checks_input,
    checks_upkeep,
    checks_versions,
)
from conformance.verdicts import CHECKS, Check

MODULES: Final = (
    checks_versions,
    checks_environment,
    checks_input,
    checks_add,
    checks_del,
    checks_check,
    checks_upkeep,
    checks_chain,
)

TABLE: Final[tuple[Check, ...]] = tuple(
    check for module in MODULES for check in CHECKS if check.function.__module__ == module.__name__
)
BY_NAME: Final = {check.name: check for check in TABLE}
