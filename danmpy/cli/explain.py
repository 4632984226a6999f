"""``danmpy explain``: which interfaces a pod gets or has, and why; or why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from danmpy.cli.args import ConfigOption, DocumentOption, nearest_pod, parse_pod, read_settings
from danmpy.cli.edge import DONE, FAILED, FINDINGS, say
from danmpy.cli.output import DocumentFormat, dumps, say_out, shown
from danmpy.clock import to_rfc3339

if TYPE_CHECKING:
    from danmpy.cli.explanations import Explanation

_MAIN_TABLE: Final = 254
_DEFAULTS: Final = frozenset({"0.0.0.0/0", "::/0"})


def explain(
    context: typer.Context,
    pod: Annotated[str, typer.Argument(metavar="POD", help="namespace/name.")],
    output: DocumentOption = DocumentFormat.TABLE,
    config: ConfigOption = None,
) -> int:
    """Which interfaces, devices, addresses, routes a pod gets or has, and why; or why not.

    Exit code 0 when the pod has, or would get, everything that it declares; 1 when not.
    """
    namespace, name = parse_pod(pod)
    settings = read_settings(context, config)
    from danmpy.cli.explaining import Investigation
    from danmpy.cli.looks import look_at, say_notes
    from danmpy.errors import IntentError

    look = look_at(settings, pod=(namespace, name)).as_it_stands()
    unread = settings.intent.source != "folder" and not look.intent.complete
    found = Investigation(settings=settings, look=look, namespace=namespace, name=name).run()
    if found is None:
        # A file that could not be read may hold the pod.
        say_notes(look, refused=False)
        if unread:
            return FAILED
        hint = f"kubectl get pods -n {namespace} lists those that there are"
        if settings.intent.source == "folder":
            hint = nearest_pod(f"{namespace}/{name}", look.intent.pods)
        subject = f"Pod/{namespace}/{name}"
        raise IntentError("no such pod is or was known", hint=hint, subject=subject)
    if output is DocumentFormat.JSON:
        say_out(dumps({**found.to_json(), "database_time": look.database_time}))
    else:
        for line in _text(found):
            say_out(line)
    if unread:
        say_notes(look, refused=False)
        return FAILED
    if look.store_error is not None:
        say(str(look.store_error))
        return FAILED
    return FINDINGS if found.problems else DONE


def _text(found: Explanation) -> Iterator[str]:
    yield _bold(f"Pod {found.namespace}/{found.name}") + f": {_state(found)}"
    facts = {
        "node": found.node,
        "UID": found.uid,
        "sandbox": found.container_id,
        "since": found.since,
    }
    for title, value in facts.items():
        if value:
            yield f"  {title:<10}{shown(value)}"
    for item in found.interfaces:
        yield ""
        yield from _interface(item)
    if found.problems:
        yield ""
        yield _coloured("Why not:" if not found.attached else "What is wrong:", typer.colors.RED)
    for problem in found.problems:
        subject = f"{problem.subject}: " if problem.subject else ""
        yield f"  - {shown(subject + problem.message)}"
        if problem.hint:
            yield f"    -> {shown(problem.hint)}"
    if found.notes:
        yield ""
    for note in found.notes:
        yield f"Note: {shown(note)}"


def _state(found: Explanation) -> str:
    if found.last is not None:
        last = found.last
        until = to_rfc3339(last.to) if last.to is not None else "now"
        return (
            f"ended; last seen with {last.address} on {last.network}"
            f" from {to_rfc3339(last.from_)} to {until}"
        )
    if found.attached:
        return _coloured("attached", typer.colors.GREEN)
    if found.problems:
        return _coloured("would be refused", typer.colors.RED)
    return "not attached yet; it would get this"


def _interface(item: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {_bold(shown(item['interface']))} on {shown(item['network'])}"
    routes = [_route(route) for route in item["routes"]]
    lines = {
        "device": _device(item),
        "mtu": item["mtu"],
        "mac": item["mac"] or "(chosen when it is attached)",
        "addresses": ", ".join(item["addresses"]) or _no_address(item),
        "routes": "; ".join(routes),
        "rules": "; ".join(f"from {r['source']} table {r['table']}" for r in item["rules"]),
    }
    for title, value in lines.items():
        if value:
            yield f"    {title:<11}{shown(value)}"
    for number, reason in enumerate(item["reasons"]):
        yield f"    {'because' if number == 0 else '':<11}{shown(reason)}"


def _device(item: Mapping[str, Any]) -> str:
    words = [item["backend"] or "made elsewhere"]
    if item["device"]:
        words.append(f"on {item['device']}")
    if item["kind"]:
        words.append(f"({item['kind']} {item['id']} on {item['parent']})")
    return " ".join(words)


def _no_address(item: Mapping[str, Any]) -> str:
    return "(leased when it is attached)" if "dynamic" in {item["ip"], item["ip6"]} else "none"


def _route(route: Mapping[str, Any]) -> str:
    destination = route["destination"]
    text = "default" if destination in _DEFAULTS else str(destination)
    if route["gateway"]:
        text += f" via {route['gateway']}"
    if route["table"] != _MAIN_TABLE:
        text += f" table {route['table']}"
    return text


def _pretty() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _bold(text: str) -> str:
    return typer.style(text, bold=True) if _pretty() else text


def _coloured(text: str, colour: str) -> str:
    return typer.style(text, fg=colour) if _pretty() else text
