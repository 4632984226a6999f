"""What the CNI plugin host-local holds: a folder a network, in it a file an address. Pure.

A file is called after its address and has the container's id on its first line and the interface on
the second (containernetworking plugins, host-local/backend/disk). On Windows, and in copies that
were made there, "_" stands for ":". ``last_reserved_ip.N`` and ``lock`` are no addresses. Nothing
says which pod a container is: `parse_sandboxes` reads that from ``crictl pods -o json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from danmpy.api.addresses import TextError
from danmpy.api.jsontext import parse_json
from danmpy.importing.values import (
    WORD_MAX,
    Holding,
    Parsed,
    UnreadableError,
    address_of,
    mapping_of,
    problem,
    text_of,
)
from danmpy.intent.values import Problem

SOURCE: Final = "host-local"

_NO_ADDRESSES: Final = ("lock", "last_reserved_ip.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFile:
    """One file of a state folder: its path, its name in the folder, what is in it.

    `modified` is when it was written, in microseconds: when the address was handed out.
    """

    path: str
    name: str
    content: bytes
    modified: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The pod of a container id, as the container runtime knows it."""

    namespace: str
    pod: str
    pod_uid: str


def is_state(name: str) -> bool:
    """May the file `name` stand for an address? Others are the plugin's own notes."""
    return not name.startswith(_NO_ADDRESSES)


def parse_host_local(network: str, files: Iterable[StateFile], node: str) -> Parsed:
    """The addresses in use of one state folder, on the machine `node`."""
    holdings: list[Holding] = []
    problems: list[Problem] = []
    for file in files:
        if not is_state(file.name):
            continue
        try:
            holdings.append(_holding(network, file, node))
        except UnreadableError as error:
            problems.append(problem(file.path, file.name, str(error)))
    return Parsed(holdings=tuple(holdings), problems=tuple(problems))


def _holding(network: str, file: StateFile, node: str) -> Holding:
    address = address_of(file.name.replace("_", ":"))
    try:
        lines = file.content.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise UnreadableError("it is no text") from None
    container, interface = (line.strip() for line in (*lines, "")[:2])
    if len(lines) > 3 or any(line.strip() for line in lines[2:]):
        raise UnreadableError("it has more than a container's id and an interface")
    for word in (container, interface):
        if len(word) > WORD_MAX or not word.isprintable():
            raise UnreadableError("the container's id or the interface is no name")
    return Holding(
        source=SOURCE,
        where=file.path,
        network=network,
        address=address,
        container_id=container,
        interface=interface,
        node=node,
        since=file.modified,
    )


def parse_sandboxes(data: bytes, name: str) -> tuple[Mapping[str, Sandbox], tuple[Problem, ...]]:
    """The pods by container id, out of what ``crictl pods -o json`` prints."""
    sandboxes: dict[str, Sandbox] = {}
    problems: list[Problem] = []
    try:
        listed = mapping_of(parse_json(data.decode("utf-8-sig")), "it").get("items")
    except (TextError, UnicodeDecodeError, UnreadableError):
        listed = None
    if not isinstance(listed, list):
        return {}, (problem(name, name, "it is no list as crictl pods -o json prints it"),)
    for item in listed:
        try:
            entry = mapping_of(item, "an item")
            metadata = mapping_of(entry.get("metadata"), "metadata")
            container, pod = text_of(entry, "id"), text_of(metadata, "name")
            if container and pod:
                sandboxes[container] = Sandbox(
                    namespace=text_of(metadata, "namespace"),
                    pod=pod,
                    pod_uid=text_of(metadata, "uid"),
                )
        except UnreadableError as error:
            problems.append(problem(name, name, str(error)))
    return sandboxes, tuple(problems)


def with_pods(parsed: Parsed, sandboxes: Mapping[str, Sandbox]) -> Parsed:
    """The same with the pods of the containers that the runtime knows."""
    holdings = []
    for item in parsed.holdings:
        found = sandboxes.get(item.container_id)
        if found is not None:
            item = replace(  # noqa: PLW2901 - the same holding, with more known
                item, namespace=found.namespace, pod=found.pod, pod_uid=found.pod_uid
            )
        holdings.append(item)
    return replace(parsed, holdings=tuple(holdings))
