"""What delegate plugins say: results of every version, errors in their own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any, Final

from danmpy.api.cni import CniResult, parse_result, render_result, version_key
from danmpy.attach.delegates.confs import DelegateConf
from danmpy.attach.delegates.processes import ProcessOutcome
from danmpy.errors import (
    DanmpyError,
    DelegateError,
    NotReadyError,
    UnavailableError,
    WireError,
)

STDERR_KEPT: Final = 500
"""Characters of a plugin's stderr that are quoted: its last, where the reason mostly stands."""

_CODE_TRY_LATER: Final = 11
_CODES_UNAVAILABLE: Final = frozenset({50, 51})

Document = Mapping[str, Any]


def read_result(
    conf: DelegateConf, kind: str, stdout: bytes, last: Document | None
) -> Document | None:
    """What the next plugin gets. A plugin that prints nothing changes nothing (as in DANM).

    Raises:
        DelegateError: the plugin called `kind` printed something else than a result.
    """
    if not stdout.strip():
        return last
    document = json_object(stdout)
    if document is None:
        raise DelegateError(
            f"plugin {kind} printed no JSON object{_after_colon(quoted(stdout))}",
            hint="a plugin may print nothing but its result on stdout",
            subject=conf.source,
        )
    try:
        result = parse_result(document)
    except WireError as error:
        raise DelegateError(
            f"plugin {kind}: {error.message}", hint=error.hint, subject=conf.source
        ) from error
    said = document.get("cniVersion", conf.version)
    if said == conf.version or version_key(conf.version) < (0, 3, 0):
        return {**document, "cniVersion": said}
    return render_result(result, conf.version)


def require_obeyed(conf: DelegateConf, result: CniResult, ifname: str) -> None:
    """Did the delegate take the addresses and the MAC that it was given?

    Raises:
        DelegateError: it did not, and says nothing of it.
    """
    missing = sorted(str(a) for a in set(conf.addresses) - {ip.address for ip in result.ips})
    if missing:
        raise DelegateError(
            f"the delegate did not assign {', '.join(missing)}",
            hint="its plugin ignores ipam: leave ip and ip6 out for this network",
            subject=conf.source,
        )
    given = {ip.address.ip for ip in result.ips}
    missing = [text for text in conf.ips if ip_interface(text).ip not in given]
    if missing:
        raise DelegateError(
            f"the delegate did not assign {', '.join(missing)}",
            hint="its plugin declares the capability ips and ignores it: leave ips out of the pod",
            subject=conf.source,
        )
    macs = {i.mac for i in result.interfaces if i.name == ifname and i.sandbox and i.mac}
    if conf.mac and macs and conf.mac.lower() not in macs:
        raise DelegateError(
            f"the delegate did not set the MAC {conf.mac} but {', '.join(sorted(macs))}",
            hint='add "capabilities": {"mac": true} if its plugin can, or leave mac out',
            subject=conf.source,
        )


def failure(what: str, outcome: ProcessOutcome, source: str) -> DanmpyError:
    """The error that a plugin's answer amounts to; its own code decides about trying again."""
    document = json_object(outcome.stdout)
    if document is None or "msg" not in document:
        said = quoted(outcome.stderr or outcome.stdout) or "it said nothing"
        message = f"{what} with exit status {outcome.status}: {said}"
        return DelegateError(message, hint="see the plugin's own log", subject=source)
    code, details = document.get("code"), document.get("details")
    words = f"{document['msg']}; {details}" if details else str(document["msg"])
    message = f"{what} with code {code}: {words}{_after_colon(quoted(outcome.stderr))}"
    if code in _CODES_UNAVAILABLE:
        return UnavailableError(message, hint="see the plugin's own log", subject=source)
    if code == _CODE_TRY_LATER:
        return NotReadyError(message, hint="the plugin asks to try again later", subject=source)
    return DelegateError(message, hint="see the plugin's own log", subject=source)


def overdue(what: str, outcome: ProcessOutcome, seconds: float, source: str) -> DelegateError:
    """The error of a plugin that hung."""
    said = _after_colon(quoted(outcome.stderr))
    return DelegateError(
        f"{what} within {seconds:g} s and was killed{said}",
        hint="see the plugin's own log",
        subject=source,
    )


def quoted(output: bytes) -> str:
    """The end of `output` on one line; empty when there is nothing."""
    return " ".join(output.decode("utf-8", "replace").split())[-STDERR_KEPT:]


def json_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in `data`, or None."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
