"""Which interfaces a pod gets: the whole pod is decided, or refused, before anything is touched.

Pure. The rules are DANM's (sections 3.2 to 3.5 and 7.5 of its behaviour as of 4.3) unless a
docstring says where we differ; those of NetworkAttachmentDefinitions are the Network Plumbing
Working Group's 1.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Final

from danmpy.api.dialects.keys import NPWG_NETWORKS
from danmpy.api.limits import IFNAME_MAX_BYTES
from danmpy.api.specs import (
    AddressAsk,
    AddressMode,
    Family,
    InterfaceAsk,
    NetworkKey,
    NetworkKind,
    NetworkSpec,
    PodSpec,
    PoolSpec,
)
from danmpy.attach.deciding.plugin_asks import plugin_part, static_asks
from danmpy.attach.deciding.routing import RoutingRules, with_routing
from danmpy.attach.devices.assigning import SRIOV, device_problem, resource_of, with_sriov_conf
from danmpy.attach.plugging.wishes import wish_of
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.errors import ConflictError, DanmpyError, IntentError, NotReadyError

LEGACY_NAMING: Final = "legacy"
FIRST_NAME: Final = "eth0"
DEFAULT_PREFIX: Final = "eth"

_FAMILIES: Final[tuple[Family, Family]] = (4, 6)
_FIELD: Final[Mapping[Family, str]] = {4: "ip", 6: "ip6"}
_SUBNET_FIELD: Final[Mapping[Family, str]] = {4: "cidr", 6: "net6"}
_REFERENCE: Final[Mapping[NetworkKind, str]] = {
    NetworkKind.DANM: "network",
    NetworkKind.TENANT: "tenantNetwork",
    NetworkKind.CLUSTER: "clusterNetwork",
    NetworkKind.NAD: NPWG_NETWORKS,
}
_L2 = AddressAsk()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveContext:
    """What the decision needs besides pod and networks.

    `conf_names` are the NetworkIDs that have a delegate configuration on this node, `conf_dir` is
    where they are looked for (for messages). `rejected` says of a network that exists but was
    refused by the rules, or cannot be used now, why. `naming_scheme` is empty or ``legacy``.
    `first_name` is what the runtime calls the first interface (CNI_IFNAME). `interface_limit` is
    how many interfaces a pod of the namespace may have; None: any number. `has_primary` is False
    when a plugin before us in the chain has made the interface called `first_name`. `strict`
    refuses what nobody would honour.
    """

    container_id: str
    naming_scheme: str = ""
    first_name: str = FIRST_NAME
    conf_names: frozenset[str] = frozenset()
    conf_dir: str = ""
    rejected: Mapping[NetworkKey, str] = field(default_factory=dict)
    interface_limit: int | None = None
    has_primary: bool = True
    strict: bool = True


def resolve(
    pod: PodSpec,
    asks: tuple[InterfaceAsk, ...],
    networks: Mapping[NetworkKey, NetworkSpec],
    context: ResolveContext,
) -> tuple[InterfaceSpec, ...]:
    """The interfaces of `pod`, in the order of `asks`.

    Raises:
        IntentError: a person has to change the pod, a network, or a file on the node.
        ConflictError: two interfaces of this pod cannot both be as asked.
        NotReadyError: the network has no host device yet.
    """
    subject = f"Pod/{pod.namespace}/{pod.name}"
    specs = []
    for index, ask in enumerate(asks):
        where = _where(index, ask, ask.network)
        entry = _Entry(index=index, ask=ask, where=where, subject=subject, context=context)
        specs.append(_resolved(entry, pod, networks))
        _require_allowed(entry, pod)
    _require_distinct(specs, asks, subject)
    rules = RoutingRules(subject=subject, has_primary=context.has_primary, strict=context.strict)
    return with_routing(tuple(specs), asks, rules)


def examine(
    pod: PodSpec,
    asks: tuple[InterfaceAsk, ...],
    networks: Mapping[NetworkKey, NetworkSpec],
    context: ResolveContext,
) -> tuple[InterfaceSpec | DanmpyError, ...]:
    """What each entry comes to by itself: an interface without its routes, or what is wrong.

    For people, who want every problem at once; `resolve` stops at the first.
    """
    subject = f"Pod/{pod.namespace}/{pod.name}"
    found: list[InterfaceSpec | DanmpyError] = []
    for index, ask in enumerate(asks):
        where = _where(index, ask, ask.network)
        entry = _Entry(index=index, ask=ask, where=where, subject=subject, context=context)
        try:
            _require_allowed(entry, pod)
            found.append(_resolved(entry, pod, networks))
        except DanmpyError as error:
            found.append(error)
    return tuple(found)


def _where(index: int, ask: InterfaceAsk, network: NetworkKey) -> str:
    return f"{ask.place or f'interface {index}'} on {network}"


def derived_mac(container_id: str, name: str) -> str:
    """A stable unicast, locally administered MAC (IEEE 802, U/L bit) for an interface.

    The same sandbox and name always give the same address, so that a repeated ADD and CHECK agree.
    """
    digest = bytearray(hashlib.sha256(f"{container_id}/{name}".encode()).digest()[:6])
    digest[0] = (digest[0] & 0xFC) | 0x02
    return ":".join(f"{octet:02x}" for octet in digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One entry on its way to an InterfaceSpec; `where` and `subject` word its errors."""

    index: int
    ask: InterfaceAsk
    where: str
    subject: str
    context: ResolveContext

    def on(self, network: NetworkSpec) -> _Entry:
        """The same, where it can say which of several networks is meant."""
        if network.key not in self.ask.others:
            return self
        return replace(self, where=_where(self.index, self.ask, network.key))

    def refuse(self, problem: str, hint: str) -> IntentError:
        return IntentError(f"{self.where}: {problem}", hint=hint, subject=self.subject)


def _require_allowed(entry: _Entry, pod: PodSpec) -> None:
    """Not beyond the number of interfaces that a pod may have."""
    limit = entry.context.interface_limit
    if limit is not None and entry.index >= limit:
        raise entry.refuse(
            f"a pod of namespace {pod.namespace} may have {limit} interfaces "
            "(quotas.interfaces_per_pod)",
            "ask for fewer, or raise the quota in the TenantConfigs of the namespace",
        )


def _resolved(
    entry: _Entry, pod: PodSpec, networks: Mapping[NetworkKey, NetworkSpec]
) -> InterfaceSpec:
    network = _network(entry, pod, networks)
    entry = entry.on(network)
    barred = _barred(entry, pod, networks, network)
    if owner := barred.get(network.network_id):
        raise entry.refuse(
            f"the node's configuration {network.network_id} is that of {owner}, and namespace "
            f"{pod.namespace} is not among its AllowedTenants",
            f"ask the owner of {owner} to add the namespace, or name another network",
        )
    spec = _interface(entry, network)
    return replace(spec, barred=barred) if barred else spec


def _barred(
    entry: _Entry,
    pod: PodSpec,
    networks: Mapping[NetworkKey, NetworkSpec],
    network: NetworkSpec,
) -> dict[str, NetworkKey]:
    """The configurations of the node that `network` must not come to, and whose they are: those of
    networks that do not admit the pod, which it could otherwise reach by the file's name alone.

    What the cluster gives to every pod is its operator's choice; only that has no `place`.
    """
    on_node = network.key.kind is NetworkKind.NAD and not network.conf
    if not on_node or not entry.ask.place:
        return {}
    return {
        other.network_id: key
        for key, other in networks.items()
        if other.allowed_tenants
        and pod.namespace not in other.allowed_tenants
        and _may_delegate(other, entry.context)
    }


def _may_delegate(network: NetworkSpec, context: ResolveContext) -> bool:
    """Is it made by the node's configuration that its NetworkID names?"""
    if network.key.kind is NetworkKind.NAD:
        return False
    if network.backend == Backend.BRIDGE:
        return network.network_id in context.conf_names
    return network.backend not in {Backend.IPVLAN, Backend.MACVLAN, SRIOV}


def _network(
    entry: _Entry, pod: PodSpec, networks: Mapping[NetworkKey, NetworkSpec]
) -> NetworkSpec:
    """The first of the candidates that exists, or what it stands for. One that was rejected refuses
    the pod: the next in the order could belong to somebody else.
    """
    candidates = entry.ask.candidates
    exists = networks.keys() | entry.context.rejected.keys()
    key = next((key for key in candidates if key in exists or not key.is_object), None)
    if key is None and len(candidates) > 1:
        names = ", ".join(map(str, candidates))
        raise entry.refuse(
            f"none of {names} exists",
            "create one of them, or let the pod name another network",
        )
    if key is None:
        raise entry.refuse("there is no such network", _likely(entry.ask.network, networks))
    network = _usable(entry, pod, networks, key)
    if network.alias is None:
        return network
    alias = network.alias
    if alias.namespace not in {"", pod.namespace}:
        raise entry.refuse(
            f"it stands for {alias}, which belongs to another namespace",
            f"use a network of namespace {pod.namespace}, or a ClusterNetwork",
        )
    if alias not in exists:
        raise entry.refuse(f"it stands for {alias}, which does not exist", "create that network")
    return _usable(entry, pod, networks, alias)


def node_conf(key: NetworkKey) -> NetworkSpec:
    """The network that a CNI configuration of the node makes; whether there is one is seen when it
    is read.
    """
    return NetworkSpec(key=key, uid=f"conf:{key.name}", network_id=key.name, backend="nad")


def _usable(
    entry: _Entry, pod: PodSpec, networks: Mapping[NetworkKey, NetworkSpec], key: NetworkKey
) -> NetworkSpec:
    if not key.is_object:
        return node_conf(key)
    network = networks.get(key)
    if network is None:
        reason = entry.context.rejected[key]
        raise entry.refuse(f"the network cannot be used: {reason}", "correct the network")
    if network.terminating:
        raise entry.refuse(
            "the network is being deleted, and takes no new pods",
            "use another network, or create it anew once it is gone",
        )
    if network.allowed_tenants and pod.namespace not in network.allowed_tenants:
        raise entry.refuse(
            f"namespace {pod.namespace} is not among its AllowedTenants",
            "ask the owner of the network to add the namespace",
        )
    return network


def _likely(key: NetworkKey, networks: Iterable[NetworkKey]) -> str:
    """What may have been meant; only names that the pod's namespace could refer to are told."""
    visible = [k for k in networks if k.namespace in {"", key.namespace}]
    for other in visible:
        if other.name == key.name:
            return f"{other} exists: refer to it with {_REFERENCE[other.kind]}"
    names = sorted({k.name for k in visible if k.kind is key.kind})
    close = get_close_matches(key.name, names, n=1)
    return f"did you mean {close[0]}?" if close else "create the network, or correct its name"


def _interface(entry: _Entry, network: NetworkSpec) -> InterfaceSpec:
    backend = _backend(entry, network)
    _require_device(entry, network, backend)
    if entry.ask.needs_device and not resource_of(network):
        raise entry.refuse(
            "it asks for a device (nic_type direct or physical, or accelerate), and the network "
            "has none to give",
            "set Options.device_pool on the network, or ask for nic_type normal",
        )
    ask = static_asks(entry.ask, network, entry.refuse)
    asks = {4: ask.ip, 6: ask.ip6}
    resolved = {f: _address(entry, network, f, asks[f], backend) for f in _FAMILIES}
    delegated = backend is Backend.DELEGATE
    leased = any(resolved[f].is_leased for f in _FAMILIES)
    if network.backend == SRIOV:
        network = with_sriov_conf(network)
    owns = not delegated or leased or network.backend == SRIOV
    name = _name(entry, network)
    if ask.claim and not any(resolved[f].is_leased for f in _FAMILIES):
        raise entry.refuse(
            f"its addresses are to be kept for {ask.claim}, and danmpy does not give them out",
            "use a network with a subnet of danmpy's, or leave the claim out",
        )
    plugin, ignored = (ask.plugin, ()) if delegated else plugin_part(ask)
    if ignored and entry.context.strict:
        raise entry.refuse(
            f"{', '.join(ignored)} cannot be honoured: danmpy makes this interface itself, without "
            "a plugin that could",
            "leave it out, or set npwg.strict to false to have it ignored",
        )
    return InterfaceSpec(
        index=entry.index,
        name=name,
        network=network,
        backend=backend,
        ip=resolved[4],
        ip6=resolved[6],
        mac=_mac(entry, backend, name),
        owns_addresses=owns,
        # A delegate that keeps its own IPAM may assign IPv6: leave it alone.
        ipv6=not owns or resolved[6].mode is not AddressMode.ABSENT,
        mtu=network.mtu,
        delegate_conf=network.network_id if delegated else "",
        plugin=plugin,
        ignored=ignored,
        claim=ask.claim,
        asked=_asked(entry.ask.network, network.key),
        wish=wish_of(entry.ask),
    )


def _asked(asked: NetworkKey, found: NetworkKey) -> str:
    """What a pod that names NetworkAttachmentDefinitions calls the network, where that differs."""
    if asked.kind is not NetworkKind.NAD or asked == found:
        return ""
    return f"{asked.namespace}/{asked.name}" if asked.namespace else asked.name


def _backend(entry: _Entry, network: NetworkSpec) -> Backend:
    word = network.backend
    if network.key.kind is NetworkKind.NAD:
        return Backend.DELEGATE
    if word in {Backend.IPVLAN, Backend.MACVLAN}:
        return Backend(word)
    if word == SRIOV:
        return Backend.DELEGATE
    if network.network_id in entry.context.conf_names:
        return Backend.DELEGATE
    if word == Backend.BRIDGE:
        return Backend.BRIDGE
    directory = entry.context.conf_dir or "the CNI configuration directory"
    raise entry.refuse(
        f"NetworkType {word} is a delegate, and {directory} has neither "
        f"{network.network_id}.conflist nor {network.network_id}.conf",
        "put the delegate's configuration there, or correct NetworkID",
    )


def _require_device(entry: _Entry, network: NetworkSpec, backend: Backend) -> None:
    """ipvlan and macvlan sit on a host device, or on one of a pool that the pod was given; a bridge
    needs one only for a segment.
    """
    if problem := device_problem(network, backend):
        raise entry.refuse(*problem)
    on_link = backend in {Backend.IPVLAN, Backend.MACVLAN}
    if network.host_device or network.device_pool or not on_link:
        return
    if network.key.kind is NetworkKind.TENANT:
        raise NotReadyError(
            f"{entry.where}: the network has no host device yet",
            hint="see its conditions: danmpy networks",
            subject=entry.subject,
        )
    raise entry.refuse(f"{backend} needs a host device", "set Options.host_device on the network")


def _address(
    entry: _Entry, network: NetworkSpec, family: Family, ask: AddressAsk, backend: Backend
) -> AddressAsk:
    """The request of one family, checked (DANM 3.3).

    On a delegate whose network has no subnet of that family ``dynamic`` leaves the addressing to
    the delegate, as in DANM; a literal address is refused, where DANM gives another one silently.
    """
    pool = network.pool(family)
    if ask.mode is AddressMode.ANY:
        return AddressAsk(mode=AddressMode.DYNAMIC) if pool else _L2
    if not ask.is_leased:
        return ask
    if pool is None:
        may_choose = backend is Backend.DELEGATE and network.backend != SRIOV
        if may_choose and ask.mode is AddressMode.DYNAMIC:
            return _L2
        raise entry.refuse(
            f"{_FIELD[family]} asks an IPv{family} address and the network has no IPv{family} "
            "subnet",
            f"set Options.{_SUBNET_FIELD[family]} on the network, or leave {_FIELD[family]} out",
        )
    if ask.mode is AddressMode.STATIC:
        _require_assignable(entry, pool, ask)
    return ask


def _require_assignable(entry: _Entry, pool: PoolSpec, ask: AddressAsk) -> None:
    address = ask.address
    if address is None or address not in pool.subnet:
        raise entry.refuse(
            f"{address} is not in {pool.subnet}", f"ask an address inside {pool.subnet}"
        )
    number = int(address)
    taken = {"reserved (network, broadcast or gateway)": pool.reserved, "excluded": pool.excluded}
    for word, ranges in taken.items():
        if any(first <= number <= last for first, last in ranges):
            raise entry.refuse(f"{address} is {word} on the network", "ask another address")


def _name(entry: _Entry, network: NetworkSpec) -> str:
    """DANM 3.4: by position; the legacy scheme uses the prefix as it is. The first position is
    taken when a plugin before us has made the pod's first interface.
    """
    context = entry.context
    position = entry.index if context.has_primary else entry.index + 1
    if entry.ask.name:
        name = entry.ask.name
    elif position == 0:
        name = context.first_name
    elif network.container_prefix and context.naming_scheme == LEGACY_NAMING:
        name = network.container_prefix
    else:
        name = f"{network.container_prefix or DEFAULT_PREFIX}{position}"
    if name == context.first_name and not context.has_primary:
        raise entry.refuse(
            f"{name} is the interface that another plugin has made before danmpy",
            "give it another name",
        )
    if len(name.encode()) > IFNAME_MAX_BYTES:
        raise entry.refuse(
            f"the interface name {name} is longer than {IFNAME_MAX_BYTES} bytes",
            "shorten container_prefix, or name the interface in the annotation",
        )
    if name == "lo":
        raise entry.refuse("the name lo belongs to the loopback device", "use another name")
    return name


def _mac(entry: _Entry, backend: Backend, name: str) -> str | None:
    asked = entry.ask.mac
    if backend is Backend.IPVLAN and asked:
        raise entry.refuse(
            f"mac {asked} cannot be set: ipvlan shares the address of its parent",
            "use macvlan or bridge, or leave mac out",
        )
    if asked or backend in {Backend.IPVLAN, Backend.DELEGATE}:
        return asked
    return derived_mac(entry.context.container_id, name)


def _require_distinct(
    specs: list[InterfaceSpec], asks: tuple[InterfaceAsk, ...], subject: str
) -> None:
    """No two interfaces share a name, a static address or, on one wire, a MAC."""
    seen: dict[tuple[str, str], int] = {}
    for spec in specs:
        claims = [("name", spec.name)]
        domain = spec.network.domain
        addresses = [ask.address for ask in (spec.ip, spec.ip6) if ask.address is not None]
        claims += [(f"address on {domain}", str(address)) for address in addresses]
        if spec.mac:
            claims.append((f"MAC on {domain}", spec.mac))
        for claim in claims:
            first = seen.setdefault(claim, spec.index)
            if first == spec.index:
                continue
            problem = f"interfaces {first} and {spec.index} have the same {claim[0]}: {claim[1]}"
            hint = "give one of them another; names come from container_prefix or name"
            if asks[spec.index].place:
                other = asks[first].place or f"interface {first} (on {specs[first].network.key})"
                where = _where(spec.index, asks[spec.index], spec.network.key)
                problem = f"{where}: it has the same {claim[0]} as {other}: {claim[1]}"
                hint = f"give it another {'interface name' if claim[0] == 'name' else claim[0]}"
            raise ConflictError(problem, hint=hint, subject=subject)
