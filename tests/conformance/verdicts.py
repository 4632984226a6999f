"""What a check is and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from conformance.driver import Driver


class Kind(StrEnum):
    """What a plugin is for, which decides what may be asked of it."""

    INTERFACE = "interface"
    IPAM = "ipam"
    CHAINED = "chained"


class Outcome(StrEnum):
    """What a check found."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "n/a"


class DeviationError(Exception):
    """The plugin does something else than the specification says."""


class NotApplicableError(Exception):
    """The plugin cannot be asked this."""


def fail(message: str) -> NoReturn:
    """The plugin deviates."""
    raise DeviationError(message)


def expect(condition: object, message: str) -> None:
    """The plugin deviates unless `condition` holds."""
    if not condition:
        fail(message)


def not_applicable(reason: str) -> NoReturn:
    """The plugin cannot be asked this, for this reason."""
    raise NotApplicableError(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check found, and why; `found` is empty for a pass."""

    outcome: Outcome
    found: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule. `section`: of the CNI specification 1.1.0; "practice" is what libcni relies on."""

    name: str
    title: str
    section: str
    function: Callable[..., None]
    kinds: frozenset[Kind]
    version: str = ""

    def run(self, driver: Driver) -> Verdict:
        """Ask the plugin behind `driver`."""
        kind = driver.subject.kind
        try:
            if kind not in self.kinds:
                not_applicable(f"no rule for a plugin of kind {kind}")
            if self.version:
                driver.need_version(self.version)
                self.function(driver, self.version)
            else:
                self.function(driver)
        except DeviationError as deviation:
            return Verdict(outcome=Outcome.FAIL, found=" ".join(str(deviation).split()))
        except NotApplicableError as reason:
            return Verdict(outcome=Outcome.NOT_APPLICABLE, found=str(reason))
        return Verdict(outcome=Outcome.PASS)


VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""All that were released."""

ALL: Final = frozenset(Kind)
STANDALONE: Final = frozenset({Kind.INTERFACE, Kind.IPAM})
INTERFACE: Final = frozenset({Kind.INTERFACE})
CHAINED: Final = frozenset({Kind.CHAINED})

CHECKS: Final[list[Check]] = []
"""In the order of the table; filled by the modules `checks_*`."""


def check(
    title: str, section: str, kinds: frozenset[Kind] = ALL, versions: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a check, or one for each of `versions`, which it is then given."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__.replace("_", "-")
        for version in versions or ("",):
            CHECKS.append(
                Check(
                    name=f"{name}-{version}" if version else name,
                    title=f"{title}, {version}" if version else title,
                    section=section,
                    function=function,
                    kinds=kinds,
                    version=version,
                )
            )
        return function

    return register


def version_key(version: str) -> tuple[int, ...]:
    """`version` as numbers, for comparing."""
    return tuple(int(part) for part in version.split("."))
