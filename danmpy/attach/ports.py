"""What the CNI verbs ask of the rest: intent, netwatcher, address database, settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from danmpy.api.dialects.rules import NO_RULES, DialectRules
from danmpy.api.specs import InterfaceAsk, NetworkKey, NetworkSpec, PodSpec
from danmpy.attach.builder import PodBuilder
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.devices.sources import NodeDevices
from danmpy.attach.journal import Journal
from danmpy.clock import Clock
from danmpy.faults import FaultPoint, no_faults
from danmpy.intent.values import Intent
from danmpy.ipam.leases import Lease, LeaseOwner, LeaseRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """The networks as this node has them: resolved ones, and why others cannot be used."""

    networks: Mapping[NetworkKey, NetworkSpec] = field(default_factory=dict)
    refused: Mapping[NetworkKey, str] = field(default_factory=dict)


class NodeView(Protocol):
    """What the engine asks of intent and netwatcher."""

    def read_for(self, namespace: str, name: str, uid: str) -> Intent:
        """The wishes of now, with those about this pod: once a call, as it may take a while.

        Raises:
            DanmpyError: what this pod wants cannot be looked at now; the message says why.
        """

    def hear(self, intent: Intent, pod: PodSpec, asks: Sequence[InterfaceAsk]) -> Intent:
        """`intent`, with a network that `pod` asks for and that was made just now.

        Raises:
            DanmpyError: such a network exists, and what it is cannot be known now.
        """

    def require_ready(self) -> None:
        """Are pods attached now?

        Raises:
            NotReadyError: this node is still starting; the message says what it waits for.
        """

    def read_networks(self, intent: Intent, asked: Collection[NetworkKey] = ...) -> NetworkView:
        """The networks of `intent` as this node has them; those `asked` for may be waited for.

        Raises:
            NotReadyError: they cannot be looked at now; the message says why.
        """

    def ready_device(self, network: NetworkKey) -> str:
        """The device that interfaces on `network` are made on.

        Raises:
            NotReadyError: there is none now; the message says why.
        """


class Leases(Protocol):
    """What the engine asks of the address database."""

    def bind(self, owner: LeaseOwner, requests: Sequence[LeaseRequest]) -> tuple[Lease, ...]:
        """Lease everything, or nothing."""

    def release(
        self, container_id: str, *, reason: str = ..., at: int | None = None
    ) -> tuple[Lease, ...]:
        """Close what the container holds."""

    def release_interface(
        self, container_id: str, interface: str, *, reason: str = ...
    ) -> tuple[Lease, ...]:
        """Close what one interface of the container holds."""

    def held_by(self, container_id: str) -> tuple[Lease, ...]:
        """What the container holds."""

    def record_mac(self, container_id: str, interface: str, mac: str) -> None:
        """Note a MAC that was not known when the address was leased."""

    def require_open(self, networks: Iterable[NetworkSpec]) -> None:
        """Raise IntentError when one of these networks is being deleted."""

    def ping(self) -> None:
        """Raise StoreError when the database cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachSettings:
    """What the engine needs of the settings.

    `rules` are what the cluster decides about dialects; `strict` refuses what no plugin can honour.
    """

    node_name: str
    naming_scheme: str = ""
    conf_dir: Path = Path("/etc/cni/net.d")
    rules: DialectRules = NO_RULES
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachPorts:
    """The world that the engine works on."""

    view: NodeView
    leases: Leases
    delegates: Delegates
    builder: PodBuilder
    journal: Journal
    clock: Clock
    faults: FaultPoint = no_faults
    devices: NodeDevices = field(default_factory=lambda: NodeDevices(None))
