"""How the API server says no, as errors of ours.

    ClusterError
    +-- MissingError      404: no such object, or no such kind
    +-- ClashError        409: it exists, or it changed meanwhile
    +-- ExpiredError      410: too old a version to go on from; list again
    +-- DeniedError       401, 403: who we are, or what we may
    +-- RefusedError      400, 422 and the other 4xx: the object or the request is not acceptable
    +-- UnreachableError  no answer, 429, 5xx: trying again later can help

Their subject is the object (``TenantNetwork/blue/a``), or the path where there is no one object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from danmpy.api.words import printable
from danmpy.errors import ClusterError

_MESSAGE_MAX: Final = 1000
"""Characters of the server's words that are passed on: a webhook may answer with a whole page."""


class MissingError(ClusterError):
    """There is no such object, or the server does not know the kind (404)."""


class ClashError(ClusterError):
    """The object is there already, or it changed since it was read (409)."""


class ExpiredError(ClusterError):
    """The version to go on from is no longer kept (410): everything has to be listed again."""


class DeniedError(ClusterError):
    """The credentials are not accepted (401), or they do not allow this (403).

    `status` is that number: only the first can be helped by reading the credentials anew.
    """

    def __init__(self, message: str, *, hint: str, subject: str = "", status: int = 403) -> None:
        super().__init__(message, hint=hint, subject=subject)
        self.status = status


class RefusedError(ClusterError):
    """The API server, or a webhook of it, does not accept what was sent (400, 422, other 4xx)."""


class UnreachableError(ClusterError):
    """No answer, or one that says to come back later (429, 5xx)."""


def error_of(status: int, body: Mapping[str, Any], subject: str) -> ClusterError:
    """The error of an answer with the HTTP status `status` and a ``Status`` object as `body`.

    Kubernetes API conventions, "HTTP Status codes".
    """
    words = body.get("message")
    text = printable(words) if isinstance(words, str) and words else f"HTTP status {status}"
    message = text[:_MESSAGE_MAX]
    if status in {401, 403}:
        return _denied(status, message, subject)
    kind, hint = _KINDS.get(status, _OTHERS if status < 500 else _LATER)
    if _blames(body, "reason", "ResourceVersionTooLarge"):
        # The server does not know the version yet, and no waiting helps: so it answers, with a 504,
        # after etcd was restored from a backup (apiserver, `NewTooLargeResourceVersionError`).
        kind, hint = _KINDS[410]
    elif status == 422 and _blames(body, "field", "metadata.uid"):
        kind, hint = _KINDS[409]  # a patch that names the UID, and the object has another one now
    return kind(message, hint=hint, subject=subject)


def unreachable(words: str, subject: str) -> UnreachableError:
    """The error of a request that was not answered."""
    return UnreachableError(
        f"the API server does not answer: {printable(words)[:_MESSAGE_MAX]}",
        hint="check that it runs and that this host reaches it; it is tried again",
        subject=subject,
    )


def _denied(status: int, message: str, subject: str) -> DeniedError:
    hint = (
        "the token or certificate is not accepted: check the kubeconfig or the service account"
        if status == 401
        else "give the account this right (RBAC)"
    )
    return DeniedError(message, hint=hint, subject=subject, status=status)


def _blames(body: Mapping[str, Any], key: str, value: str) -> bool:
    """Is `value` the `key` of one of the causes that a ``Status`` names?"""
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return isinstance(causes, list) and any(
        isinstance(cause, Mapping) and cause.get(key) == value for cause in causes
    )


_OTHERS: Final = (RefusedError, "correct what the message names")
_LATER: Final = (UnreachableError, "the API server is overloaded or starting; it is tried again")
_KINDS: Final[Mapping[int, tuple[type[ClusterError], str]]] = {
    404: (MissingError, "create it; for a whole kind, apply the CRDs (`danmpy crds`)"),
    409: (ClashError, "read the object again and repeat"),
    410: (ExpiredError, "list again; this is done without help"),
    429: _LATER,
}
