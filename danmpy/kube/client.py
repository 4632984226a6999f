"""Requests to the API server with plain JSON objects, and errors of ours.

The official client gives configuration, credentials and transport. Its typed models are not used:
they cost memory and time for every field, and drop those that they do not know.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import structlog
import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError, SSLError

from danmpy.clock import monotonic
from danmpy.errors import ClusterError
from danmpy.kube.access import Access, Load, loader
from danmpy.kube.errors import (
    ClashError,
    ExpiredError,
    MissingError,
    UnreachableError,
    error_of,
    unreachable,
)
from danmpy.kube.resources import Resource
from danmpy.kube.stream import Watch

_log = structlog.get_logger(__name__)

Object = dict[str, Any]

TIMEOUT_S: Final = 5.0
"""Seconds for one request: with the rest of its work an ADD must be answered within a few."""

LIST_TIMEOUT_S: Final = 30.0
PAGE: Final = 500
"""Objects a page, as kubectl asks for; a page of networks is then below 1 MB."""

_RELOAD_S: Final = 1.0
"""Seconds between two readings of credentials that were not accepted."""

_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
"""RFC 7386."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Objects as of one version of the whole cluster, from which a watch goes on."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which objects of a kind: of one namespace or of all, and those that selectors name."""

    resource: Resource
    namespace: str = ""
    field_selector: str = ""
    label_selector: str = ""

    @property
    def path(self) -> str:
        """Where they are served."""
        return self.resource.path(self.namespace)

    @property
    def query(self) -> dict[str, str]:
        """The selectors as parameters of a request."""
        named = {"fieldSelector": self.field_selector, "labelSelector": self.label_selector}
        return {key: value for key, value in named.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """`subject` is what errors name; the timeout counts until the answer begins."""

    method: str
    path: str
    subject: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = _JSON
    timeout_s: float = TIMEOUT_S


def open_client(kubeconfig: Path | None) -> KubeClient:
    """A client as `kubeconfig` says; None: of this pod's service account, else the default file.

    Nothing is asked of the server yet.

    Raises:
        ClusterError: there is no configuration, or it cannot be used.
    """
    return KubeClient(loader(kubeconfig))


class KubeClient:
    """One API server; every method may be called from every thread and ends within its timeout.

    Every method raises a ClusterError of `kube.errors` when the server does not do as asked.
    Credentials that are not accepted (401) are read anew once, because tokens are replaced.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._access = Access(load())
        self._loaded = monotonic()

    def get(
        self, resource: Resource, name: str, namespace: str = "", *, timeout_s: float = TIMEOUT_S
    ) -> Object:
        """One object."""
        return self._ask(
            _Request(
                method="GET",
                path=resource.path(namespace, name),
                subject=resource.subject(namespace, name),
                timeout_s=timeout_s,
            )
        )

    def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        label_selector: str = "",
        timeout_s: float = LIST_TIMEOUT_S,
    ) -> Listing:
        """All objects, of every namespace when none is named: the newest state, never a cached one.

        `timeout_s` is for each page.
        """
        scope = Scope(
            resource=resource,
            namespace=namespace,
            field_selector=field_selector,
            label_selector=label_selector,
        )
        try:
            return _joined(self.pages(scope, timeout_s=timeout_s))
        except ExpiredError:  # between two pages: a second time is no accident
            return _joined(self.pages(scope, timeout_s=timeout_s))

    def pages(self, scope: Scope, *, timeout_s: float = LIST_TIMEOUT_S) -> Iterator[Listing]:
        """As `list`, page by page, so that not all objects are in memory at once.

        Raises:
            ExpiredError: the server let go of the listing between two pages; begin again.
        """
        query = scope.query | {"limit": str(PAGE)}
        while True:
            body = self._ask(
                _Request(
                    method="GET",
                    path=scope.path,
                    subject=scope.path,
                    query=query,
                    timeout_s=timeout_s,
                )
            )
            metadata = body.get("metadata") or {}
            items = body.get("items") or []
            for item in items:  # the server leaves both to the list
                item["kind"], item["apiVersion"] = scope.resource.kind, scope.resource.api_version
            yield Listing(items=items, resource_version=metadata.get("resourceVersion", ""))
            if not (token := metadata.get("continue")):
                return
            query = query | {"continue": token}

    def create(self, resource: Resource, body: Object, namespace: str = "") -> Object:
        """Make the object `body`; ClashError when there is one of that name."""
        name = str((body.get("metadata") or {}).get("name", ""))
        return self._ask(
            _Request(
                method="POST",
                path=resource.path(namespace),
                subject=resource.subject(namespace, name),
                body=body,
            )
        )

    def replace(
        self,
        resource: Resource,
        name: str,
        body: Object,
        namespace: str = "",
        subresource: str = "",
    ) -> Object:
        """Put `body` in place of the object; ClashError when its resourceVersion is not of now."""
        return self._ask(
            _Request(
                method="PUT",
                path=resource.path(namespace, name, subresource),
                subject=resource.subject(namespace, name),
                body=body,
            )
        )

    def patch(
        self,
        resource: Resource,
        name: str,
        patch: Object,
        namespace: str = "",
        subresource: str = "",
    ) -> Object:
        """Merge `patch` into the object (RFC 7386): null deletes, lists are replaced.

        A ``metadata.resourceVersion`` or ``metadata.uid`` in it is a precondition (ClashError).
        """
        return self._ask(
            _Request(
                method="PATCH",
                path=resource.path(namespace, name, subresource),
                subject=resource.subject(namespace, name),
                body=patch,
                content_type=_MERGE_PATCH,
            )
        )

    def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "") -> None:
        """Delete the object; one that is gone is a success.

        With `uid` only the object that has it: another one of that name is left alone, and that is
        a success as well.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self._ask(
                _Request(
                    method="DELETE",
                    path=resource.path(namespace, name),
                    subject=resource.subject(namespace, name),
                    body=options,
                )
            )
        except MissingError:
            return
        except ClashError:
            if not uid or self._uid_of(resource, name, namespace) == uid:
                raise

    def _uid_of(self, resource: Resource, name: str, namespace: str) -> str:
        try:
            found = self.get(resource, name, namespace)
        except MissingError:
            return ""
        return str((found.get("metadata") or {}).get("uid", ""))

    def watch(
        self,
        scope: Scope,
        resource_version: str,
        *,
        timeout_s: float = 300.0,
        silence_s: float = 90.0,
    ) -> Watch:
        """The changes after `resource_version` as they come: a context manager to iterate over.

        The server ends it after `timeout_s`; `silence_s` without a word counts as lost. Servers
        send a bookmark each minute, but none for a kind that has not changed since they started.

        Raises:
            ExpiredError: so old a version is no longer kept; list again.
        """
        query = scope.query | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout_s))),
        }
        request = _Request(method="GET", path=scope.path, subject=scope.path, query=query)
        return Watch(self._answer(request), subject=scope.path, silence_s=silence_s)

    def server_version(self) -> tuple[int, int]:
        """Major and minor of the server's release; minor may have a suffix there (``20+``)."""
        body = self._ask(_Request(method="GET", path="/version", subject="/version"))
        numbers = [re.match(r"\d+", str(body.get(part, ""))) for part in ("major", "minor")]
        major, minor = (int(number.group()) if number else 0 for number in numbers)
        return major, minor

    def serves(self, group_version: str) -> bool:
        """Does the server serve this version of a group (``policy/v1``, ``v1`` for the core)?"""
        path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        try:
            self._ask(_Request(method="GET", path=path, subject=path))
        except MissingError:
            return False
        return True

    @property
    def server(self) -> str:
        """Where the API server listens, for messages."""
        return self._access.host

    def close(self) -> None:
        """Close the connections that nothing uses now."""
        with self._lock:
            self._access.pool.clear()

    def _ask(self, request: _Request) -> Object:
        """The object that the server answers with."""
        return _object(self._answer(request), request.subject)

    def _answer(self, request: _Request) -> urllib3.BaseHTTPResponse:
        """The answer to `request`, its body unread; an answer that says no is an error."""
        access, response = self._send(request)
        if response.status == 401 and self._reload(access):
            response.close()
            access, response = self._send(request)
        if response.status < 300:
            return response
        try:
            body = _object(response, request.subject)
        except ClusterError:  # a proxy's page
            body = {}
        raise error_of(response.status, body, request.subject)

    def _send(self, request: _Request) -> tuple[Access, urllib3.BaseHTTPResponse]:
        with self._lock:
            access = self._access
            headers = access.headers()
        headers |= {"Accept": _JSON, "User-Agent": "danmpy"}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            try:
                return access, _send_once(access, request, headers)
            except ProtocolError:
                # The server may close an idle connection in the very moment in which it is used.
                if request.method != "GET":
                    raise
                return access, _send_once(access, request, headers)
        except SSLError as error:
            self._reload(access)  # for the next request: certificates are replaced as well
            raise unreachable(_words(error), request.subject) from error
        except ReadTimeoutError as error:
            # The other idle connections may be as half open as this one was.
            access.pool.clear()
            raise unreachable(_words(error), request.subject) from error
        except (HTTPError, OSError) as error:
            raise unreachable(_words(error), request.subject) from error

    def _reload(self, refused: Access) -> bool:
        """Read the configuration anew because `refused` was; is there another one now?"""
        with self._lock:
            if self._access is not refused:
                return True
            if monotonic() - self._loaded < _RELOAD_S:
                return False
            self._loaded = monotonic()
            try:
                self._access = Access(self._load())
            except ClusterError as error:
                _log.warning("credentials cannot be read anew", error=str(error))
                return False
            refused.pool.clear()
            return True


def _send_once(
    access: Access, request: _Request, headers: dict[str, str]
) -> urllib3.BaseHTTPResponse:
    query = f"?{urlencode(request.query)}" if request.query else ""
    return access.pool.request(
        request.method,
        f"{access.host}{request.path}{query}",
        body=None if request.body is None else json.dumps(request.body).encode(),
        headers=headers,
        timeout=urllib3.Timeout(total=request.timeout_s),
        preload_content=False,
        retries=False,
        redirect=False,
    )


def _object(response: urllib3.BaseHTTPResponse, subject: str) -> Object:
    """The body of `response`, whose connection is free afterwards."""
    try:
        data = response.read()
    except (HTTPError, OSError) as error:
        response.close()
        raise unreachable(_words(error), subject) from error
    response.release_conn()
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnreachableError(
            "the answer is no JSON object",
            hint="is there a proxy between this host and the API server?",
            subject=subject,
        )
    return value


def _joined(pages: Iterator[Listing]) -> Listing:
    items: list[Object] = []
    version = ""
    for page in pages:
        items += page.items
        version = page.resource_version
    return Listing(items=items, resource_version=version)


def _words(error: Exception) -> str:
    """What went wrong, without the object that the library puts before its words."""
    words = str(error).rpartition(">: ")[2] or type(error).__name__
    return _OBJECT.sub("", words)


_OBJECT: Final = re.compile(r"^HTTPS?Connection(Pool)?\(host=[^)]*\): ")
