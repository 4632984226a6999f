"""Every error that danmpy raises on purpose, on one page.

An error names the object it is about, says what is wrong in one line, and hints at the way out.
The class decides how each edge answers: the CNI error code (CNI spec 1.1.0, section "Error";
100 and above are ours), the exit code of the command line, and whether trying again can help.

    DanmpyError
    +-- IntentError        a manifest or annotation is wrong; a person must change it
    |   +-- ConflictError  right alone, wrong together with something else
    +-- ExhaustedError     a pool or a VLAN/VNI range is full
    +-- NotReadyError      something this needs is not there yet
    |   +-- UnavailableError  the node cannot attach pods at all (CNI STATUS)
    +-- HostError          the kernel refused
    +-- StoreError         the database is unreachable or refused
    +-- ClusterError       the API server is unreachable or refused
    +-- DelegateError      a delegate CNI plugin failed or answered nonsense
    +-- WireError          the caller broke the CNI protocol
    +-- BugError           an invariant of ours broke
"""

from __future__ import annotations

from typing import ClassVar, Literal

Retry = Literal["never", "person", "later"]


class DanmpyError(Exception):
    """Base of the family; never raised itself.

    `message` is one line; `hint` says the way out; `subject` names the object
    (``TenantNetwork/blue/internal``, ``Pod/blue/web-0``, a file name, a link name).
    """

    cni_code: ClassVar[int] = 999
    exit_code: ClassVar[int] = 3
    retry: ClassVar[Retry] = "never"

    def __init__(self, message: str, *, hint: str, subject: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.subject = subject

    def __str__(self) -> str:
        prefix = f"{self.subject}: " if self.subject else ""
        suffix = f" ({self.hint})" if self.hint else ""
        return f"{prefix}{self.message}{suffix}"


class IntentError(DanmpyError):
    """What a person wrote is wrong by itself."""

    cni_code = 7
    exit_code = 2
    retry = "person"


class ConflictError(IntentError):
    """Right alone, wrong together with something that is already there."""


class ExhaustedError(DanmpyError):
    """A pool of addresses or a range of VLAN ids or VNIs is full."""

    cni_code = 11
    exit_code = 1
    retry = "later"


class NotReadyError(DanmpyError):
    """A dependency is not there yet; the same call may succeed later."""

    cni_code = 11
    exit_code = 1
    retry = "later"


class UnavailableError(NotReadyError):
    """The node cannot attach pods now (CNI spec 1.1.0, STATUS, code 50)."""

    cni_code = 50


class HostError(DanmpyError):
    """The kernel of this node refused."""

    cni_code = 110
    exit_code = 3
    retry = "later"


class StoreError(DanmpyError):
    """The database is unreachable, locked, read-only, or of another schema."""

    cni_code = 11
    exit_code = 3
    retry = "later"


class ClusterError(DanmpyError):
    """The API server is unreachable or refused."""

    cni_code = 11
    exit_code = 3
    retry = "later"


class DelegateError(DanmpyError):
    """A delegate CNI plugin failed; the message carries its own words."""

    cni_code = 120
    exit_code = 3
    retry = "later"


class WireError(DanmpyError):
    """The runtime broke the CNI protocol: code 1, 3, 4, 5, 6 or 8 of the CNI specification."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str, subject: str = "", code: int = 4) -> None:
        super().__init__(message, hint=hint, subject=subject)
        self.code = code


class BugError(DanmpyError):
    """An invariant of danmpy broke: please report it with the message."""

    cni_code = 999
    exit_code = 70


def cni_code_of(error: DanmpyError) -> int:
    """The CNI error code of `error`; a WireError carries its own."""
    return error.code if isinstance(error, WireError) else error.cni_code
