"""What an ADD is to make: the pod found, its wishes read, its networks looked up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from danmpy.api.cni import CniRequest
from danmpy.api.dialects.reading import read_pod
from danmpy.api.profile_rules import quotas_for
from danmpy.api.specs import Dialect, NetworkKind, NetworkSpec, PodAsks, PodSpec, QuotaSpec
from danmpy.attach.deciding.ipam_claims import require_ipam_claims
from danmpy.attach.deciding.resolve import ResolveContext, resolve
from danmpy.attach.devices.assigning import HeldDevice, wanted_devices, with_devices
from danmpy.attach.journal import Phase
from danmpy.attach.plugging.wishes import wishes_when_attached
from danmpy.attach.ports import AttachPorts, AttachSettings
from danmpy.attach.values import Backend, InterfaceSpec, PodIdentity
from danmpy.errors import IntentError, NotReadyError
from danmpy.intent.values import Intent

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The interfaces of one pod, complete but for their addresses.

    `primary_only`: the runtime is told of its own interface alone. `has_primary` is False when a
    plugin before us has made that one. `wishes` tells the annotations (`wishes`).
    """

    identity: PodIdentity
    dialect: Dialect
    specs: tuple[InterfaceSpec, ...]
    primary_only: bool = False
    has_primary: bool = True
    wishes: str = ""


class Decider:
    """Decides; safe for many threads."""

    def __init__(self, settings: AttachSettings, ports: AttachPorts) -> None:
        self._settings = settings
        self._ports = ports

    def decide(self, request: CniRequest) -> Decision:
        """What `request`, an ADD, is to make.

        Raises:
            IntentError: the declaration is wrong, with the entry and the rule.
            NotReadyError: the pod, a network or a host device is not known yet.
        """
        intent = self._ports.view.read_for(request.pod_namespace, request.pod_name, request.pod_uid)
        pod = _pod_of(request, intent)
        quotas = quotas_for(intent.tenant_configs, pod.namespace)
        identity = PodIdentity.of(request, pod, quotas)
        has_primary = not has_interface(request)
        asks = read_pod(pod, self._settings.rules, has_primary=has_primary)
        specs = self.decide_interfaces((pod, asks, identity), intent, quotas)
        for spec in specs:
            if spec.ignored:
                _log.warning(
                    "asked in vain",
                    pod=f"{pod.namespace}/{pod.name}",
                    network=str(spec.network.key),
                    keys=list(spec.ignored),
                )
        if has_primary:
            _require_primary(specs, identity)
            specs = tuple(
                replace(spec, runtime=_offered(request)) if spec.name == identity.ifname else spec
                for spec in specs
            )
        return Decision(
            identity=identity,
            dialect=asks.dialect,
            specs=specs,
            primary_only=asks.answers_primary_only,
            has_primary=has_primary,
            wishes=wishes_when_attached(pod),
        )

    def decide_interfaces(
        self,
        whose: tuple[PodSpec, PodAsks, PodIdentity],
        intent: Intent,
        quotas: QuotaSpec,
        leaving: Collection[str] = (),
    ) -> tuple[InterfaceSpec, ...]:
        """The interfaces for the asks of the pod `whose` they are, on the devices that they are
        made on. Standing interfaces that are `leaving` first give theirs back.

        Raises:
            DanmpyError: as `decide`.
        """
        pod, asks, identity = whose
        interfaces = asks.interfaces
        intent = self._ports.view.hear(intent, pod, interfaces)
        asked = [key for ask in interfaces for key in ask.candidates]
        asked += [spec.alias for key in asked if (spec := intent.networks.get(key)) and spec.alias]
        view = self._ports.view.read_networks(intent, asked)
        context = ResolveContext(
            container_id=identity.container_id,
            naming_scheme=self._settings.naming_scheme,
            first_name=identity.ifname,
            conf_names=self._ports.delegates.conf_names(),
            conf_dir=str(self._settings.conf_dir),
            rejected=view.refused,
            interface_limit=quotas.interfaces_per_pod,
            has_primary=asks.has_primary,
            strict=self._settings.strict,
        )
        specs = resolve(pod, interfaces, view.networks, context)
        require_ipam_claims(pod, specs, intent.ipam_claims)
        specs = tuple(
            replace(spec, device=self._ready_device(spec)) if _needs_device(spec) else spec
            for spec in self._on_pool_devices(specs, identity, leaving)
        )
        info = self._ports.devices.info
        return tuple(
            replace(spec, device_info_file=info.path(identity.container_id, spec.name))
            if spec.backend is Backend.DELEGATE
            else spec
            for spec in specs
        )

    def _ready_device(self, spec: InterfaceSpec) -> str:
        network = spec.network
        if network.device_pool and not network.host_device:
            return self._ports.devices.read_netdev(spec.device_id, network.device_pool)
        return self._ports.view.ready_device(network.key)

    def _on_pool_devices(
        self, specs: tuple[InterfaceSpec, ...], identity: PodIdentity, leaving: Collection[str]
    ) -> tuple[InterfaceSpec, ...]:
        """`specs`, each with the device of its pool that the pod was given for it."""
        wanted = wanted_devices(specs)
        if not wanted:
            return specs
        offered = self._ports.devices.read_offered(identity.namespace, identity.pod, wanted)
        held = [
            HeldDevice(interface=link.name, resource=link.resource, device_id=link.device_id)
            for record in self._ports.journal.read_container(identity.container_id)
            for link in record.links
            if link.device_id and record.phase is not Phase.DETACHED and link.name not in leaving
        ]
        subject = f"Pod/{identity.namespace}/{identity.pod}"
        return with_devices(specs, offered, held, subject=subject)


def has_interface(request: CniRequest) -> bool:
    """Has a plugin before us in the chain made the interface that the runtime asks for?"""
    made = request.prev_result.interfaces if request.prev_result else ()
    return any(each.sandbox and each.name == request.ifname for each in made)


def without_lease(specs: Sequence[InterfaceSpec]) -> list[NetworkSpec]:
    """The networks of which no lease would tell that they are being deleted.

    Only an API server deletes so; a network of a folder, whose UID is its name, just goes, as do
    NetworkAttachmentDefinitions, which wait for nobody.
    """
    leased = {spec.network.uid for spec in specs if spec.is_leased}
    networks = (spec.network for spec in specs if spec.network.uid not in leased)
    return [
        network
        for network in networks
        if network.uid != str(network.key) and network.key.kind is not NetworkKind.NAD
    ]


def _pod_of(request: CniRequest, intent: Intent) -> PodSpec:
    namespace, name = request.pod_namespace, request.pod_name
    pod = intent.pods.get((namespace, name))
    subject = f"Pod/{namespace}/{name}"
    if pod is None:
        raise NotReadyError(
            "this pod is not known here",
            hint="it is not in the intent (folder or API server) yet, or no longer",
            subject=subject,
        )
    if request.pod_uid and not pod.is_uid(request.pod_uid):
        raise IntentError(
            f"the runtime attaches UID {request.pod_uid}, but the pod now has {pod.uid}",
            hint="a pod of this name was replaced; the runtime must make a new sandbox",
            subject=subject,
        )
    return pod


def _require_primary(specs: Sequence[InterfaceSpec], identity: PodIdentity) -> None:
    if all(spec.name != identity.ifname for spec in specs):
        raise IntentError(
            f"none of its interfaces is called {identity.ifname}, which the runtime asks for",
            hint=f"leave out the name of the first interface, or call one {identity.ifname}",
            subject=f"Pod/{identity.namespace}/{identity.pod}",
        )


def _offered(request: CniRequest) -> Mapping[str, Any]:
    """What the runtime offers: for the pod's default network, and for no other (NPWG 1.3, 3.3)."""
    offered = request.config.get("runtimeConfig")
    return offered if isinstance(offered, Mapping) else {}


def _needs_device(spec: InterfaceSpec) -> bool:
    """A delegate has its host device in its configuration, unless danmpy makes one for it."""
    if spec.backend is not Backend.DELEGATE:
        return True
    return spec.network.key.kind is NetworkKind.NAD and spec.network.segment is not None
