"""What ``danmpy explain`` finds out about one pod: declared, decided, attached, leased."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from danmpy.api.dialects.danm import parse_claim
from danmpy.api.dialects.reading import read_pod
from danmpy.api.dialects.rules import more_asks, primary_ask
from danmpy.api.profile_rules import quotas_for
from danmpy.api.specs import (
    AddressAsk,
    Family,
    InterfaceAsk,
    NetworkSpec,
    PodSpec,
)
from danmpy.attach.checks import after_chain
from danmpy.attach.deciding.ipam_claims import require_ipam_claims
from danmpy.attach.deciding.resolve import ResolveContext, examine, resolve
from danmpy.attach.delegates.calling import Delegates
from danmpy.attach.journal import AttachmentRecord, LinkRecord, Phase
from danmpy.attach.observe import read_facts
from danmpy.attach.plan import differences, stand_ins
from danmpy.attach.ports import NetworkView
from danmpy.attach.values import Backend, InterfaceSpec
from danmpy.attach.view import LiveView
from danmpy.bootstrap.readers import dialect_rules, open_delegates, read_attachments
from danmpy.cli.explanations import Decided, Explanation, Still, Trouble
from danmpy.cli.looks import Look
from danmpy.cli.reasons import bare_item, future_routes, reasons
from danmpy.clock import to_rfc3339
from danmpy.errors import DanmpyError
from danmpy.ipam.audit import Audit, HistoryFilter
from danmpy.ipam.values import Lease
from danmpy.kernel.podlinks import PodFacts
from danmpy.settings import Settings

_ANEW: Final = "delete the pod, so that it is attached anew"


@dataclass(slots=True, kw_only=True)
class Investigation:
    """One pod under investigation; `problems` and `notes` fill up on the way."""

    settings: Settings
    look: Look
    namespace: str
    name: str
    leases: tuple[Lease, ...] = ()
    problems: list[Trouble] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """The pod as errors name it."""
        return f"Pod/{self.namespace}/{self.name}"

    def trouble(self, message: str, hint: str, subject: str = "") -> None:
        """Note a problem once."""
        found = Trouble(subject=subject or self.subject, message=message, hint=hint)
        if found not in self.problems:
            self.problems.append(found)

    def run(self) -> Explanation | None:
        """What there is to say; None when nobody ever heard of the pod.

        Raises:
            StoreError: the pod is not declared and the database, which may know it, is away.
        """
        pod = self.look.intent.pods.get((self.namespace, self.name))
        records = self._records(pod)
        self.leases = self._leases(pod)
        if pod is None and not records and not self.leases:
            return self._ended()
        attached = [record for record in records if record.phase is Phase.ATTACHED]
        has_primary = all(record.has_primary for record in attached)
        decided = self._decide(pod, has_primary=has_primary) if pod else Decided()
        for record in records:
            if record.phase is not Phase.ATTACHED:
                self.trouble(
                    f"sandbox {record.container_id} is {record.phase} on this node",
                    "if that lasts, start danmpy node, which finishes what was left half done",
                )
        if pod is None:
            self._miss()
        if attached:
            record = max(attached, key=lambda each: each.began_at)
            self.notes += [
                f"sandbox {each.container_id} of this pod is attached as well"
                for each in attached
                if each is not record
            ]
            return self._attached_here(pod, record, decided)
        return self._not_here(pod, decided)

    # Who it is

    def _miss(self) -> None:
        """Its manifest is not there."""
        if not self.look.intent.complete and self.settings.intent.source != "folder":
            self.notes.append("its manifest cannot be read now, so nothing is compared with it")
            return
        self.trouble(
            "it is attached, and its manifest is no longer in the intent",
            "if the pod is gone, its runtime must call DEL; danmpy audit diff lists such pods",
        )

    def _records(self, pod: PodSpec | None) -> list[AttachmentRecord]:
        mine = [
            record
            for record in read_attachments(self.settings)
            if (record.namespace, record.pod) == (self.namespace, self.name)
        ]
        same = [record for record in mine if _same_uid(pod, record.pod_uid)]
        for record in mine:
            if record not in same:
                self.notes.append(
                    f"an earlier pod of this name (UID {record.pod_uid}) is still attached on"
                    f" this node, in sandbox {record.container_id}"
                )
        return same

    def _leases(self, pod: PodSpec | None) -> tuple[Lease, ...]:
        """What the pod holds now; nothing when the database cannot be read."""
        audit = self.look.audit
        if audit is None:
            return ()
        wanted = HistoryFilter(pod=f"{self.namespace}/{self.name}", since=audit.database_time())
        held = [lease for lease in audit.history(wanted) if lease.to is None]
        return tuple(lease for lease in held if _same_uid(pod, lease.pod_uid))

    def _ended(self) -> Explanation | None:
        """A pod that is nowhere now."""
        audit = self.look.audit
        if audit is None:
            raise self.look.unread()
        last: Lease | None = None
        for lease in audit.history(HistoryFilter(pod=f"{self.namespace}/{self.name}")):
            if last is None or lease.from_ > last.from_:
                last = lease
        if last is None:
            return None
        self.trouble(
            "it is not in the intent, and attached nowhere",
            f"what it held is in danmpy audit history --pod {self.namespace}/{self.name}",
        )
        return Explanation(
            namespace=self.namespace,
            name=self.name,
            declared=False,
            attached=False,
            uid=last.pod_uid,
            node=last.node,
            container_id=last.container_id,
            problems=tuple(self.problems),
            notes=tuple(self.notes),
            last=last,
        )

    # What it declares

    def _decide(self, pod: PodSpec, *, has_primary: bool) -> Decided:
        try:
            parse_claim(pod)
            rules = dialect_rules(self.settings)
            asks = read_pod(pod, rules, has_primary=has_primary)
            keys = [key for ask in asks.interfaces for key in ask.candidates]
            view = self._view().read_networks(self.look.intent, keys)
        except DanmpyError as error:
            return Decided(problems=(Trouble.of(error),))
        quotas = quotas_for(self.look.intent.tenant_configs, pod.namespace)
        context = ResolveContext(
            interface_limit=quotas.interfaces_per_pod,
            container_id="",
            naming_scheme=self.settings.cni.naming_scheme,
            conf_names=open_delegates(self.settings).conf_names(),
            conf_dir=str(self.settings.cni.conf_dir),
            rejected=view.refused,
            has_primary=has_primary,
            strict=self.settings.npwg.strict,
        )
        decided = _decided(pod, asks.interfaces, view, context)
        try:
            require_ipam_claims(pod, decided.specs, self.look.intent.ipam_claims)
        except DanmpyError as error:
            decided = replace(decided, problems=(*decided.problems, Trouble.of(error)))
        given = (primary_ask(rules, pod.namespace), *more_asks(rules, pod.namespace))
        return replace(
            decided,
            dialect=asks.dialect,
            given=tuple(ask for ask in asks.interfaces if replace(ask, name=None) in given),
        )

    def _view(self) -> LiveView:
        """The view that ADD has, on what was looked at."""
        report = self.look.report
        if not report.error:
            report = replace(report, intent=self.look.intent)
        still = Still(intent=self.look.intent, report=report)
        return LiveView(still, still)

    # Attached on this node

    def _attached_here(
        self, pod: PodSpec | None, record: AttachmentRecord, decided: Decided
    ) -> Explanation:
        facts = self._facts(record)
        by_name = {spec.name: spec for spec in decided.specs}
        interfaces = [
            self._made_item(link, by_name.get(link.name), decided, facts) for link in record.links
        ]
        if not decided.problems:
            self._compare_declared(record, decided)
        for problem in decided.problems:
            self.notes.append(
                f"attached anew it would be refused: {problem.message} ({problem.hint})"
            )
        self._compare_leases(record)
        return Explanation(
            namespace=self.namespace,
            name=self.name,
            declared=pod is not None,
            attached=True,
            uid=record.pod_uid or (pod.uid if pod else ""),
            node=self.settings.node_name,
            container_id=record.container_id,
            since=to_rfc3339(record.began_at),
            interfaces=tuple(interfaces),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    def _facts(self, record: AttachmentRecord) -> PodFacts | None:
        try:
            facts = read_facts(record)
        except DanmpyError as error:
            self.trouble(error.message, error.hint)
            return None
        if facts is None:
            self.trouble(
                f"its network namespace {record.netns} is gone or is another one",
                "the sandbox ended without DEL; the node daemon lets go of it once the pod is gone",
            )
            return None
        for link in after_chain(record).links:
            if link.link and link.config:
                for found in differences(link.name, link.link, link.config, facts):
                    self.trouble(found, _ANEW)
        return facts

    def _made_item(
        self,
        link: LinkRecord,
        spec: InterfaceSpec | None,
        decided: Decided,
        facts: PodFacts | None,
    ) -> dict[str, Any]:
        """One interface as it was made, with the reasons where its declaration still stands."""
        seen = facts.links.get(link.name) if facts else None
        config = link.config
        known = spec is not None and str(spec.network.key) == link.network
        item = self._base_item(spec, decided) if spec and known else bare_item(link)
        leased = [str(lease.address) for lease in self.leases if lease.interface == link.name]
        addresses = list(config.addresses) if config and config.addresses else leased
        if link.link is None and facts is not None:
            shown = facts.addresses.get(link.name, frozenset())
            addresses = sorted(a for a in shown if not a.lower().startswith("fe80:"))
        return {
            **item,
            "device": link.link.parent if link.link else None,
            "mac": seen.mac if seen else (link.link.mac if link.link else None),
            "mtu": seen.mtu if seen else item["mtu"],
            "addresses": addresses,
            "routes": [
                {"destination": r.destination, "gateway": r.gateway, "table": r.table}
                for r in (config.routes if config else ())
            ],
            "rules": [
                {"source": r.source, "table": r.table} for r in (config.rules if config else ())
            ],
        }

    def _compare_declared(self, record: AttachmentRecord, decided: Decided) -> None:
        """Has the declaration changed since the pod was attached?"""
        made = {link.name: link.network for link in record.links}
        for spec in decided.specs:
            network = str(spec.network.key)
            if made.get(spec.name) != network:
                self.trouble(
                    f"interface {spec.name} on {network} is declared and was not attached", _ANEW
                )
        declared = {spec.name for spec in decided.specs}
        for name, network in made.items():
            if decided.specs and name not in declared:
                self.notes.append(f"interface {name} on {network} is no longer declared")

    def _compare_leases(self, record: AttachmentRecord) -> None:
        if self.look.audit is None:
            return
        held = {(lease.interface, str(lease.address)) for lease in self.leases}
        for link in record.links:
            for address in link.config.addresses if link.config else ():
                if (link.name, address) not in held:
                    self.trouble(f"the database has no lease of {address} for {link.name}", _ANEW)

    # Attached elsewhere, or not yet

    def _not_here(self, pod: PodSpec | None, decided: Decided) -> Explanation:
        here = self.settings.node_name
        elsewhere = [lease for lease in self.leases if lease.node != here]
        node = elsewhere[0].node if elsewhere else (pod.node if pod else "")
        newest = max(self.leases, key=lambda lease: lease.from_, default=None)
        if self.leases and not elsewhere:
            self.trouble(
                "it holds addresses on this node and is not attached here",
                "an ADD may be under way; if not, danmpy audit diff names the leases",
            )
        if node and node != here:
            self.notes.append(
                f"it is on node {node}; devices are named as on this node, {here}, and what the"
                " pod really has is seen on its own node"
            )
        self.problems += [p for p in decided.problems if p not in self.problems]
        if not elsewhere:
            for spec in decided.specs:
                self._foresee(spec, local=node in {"", here})
        interfaces = [self._future_item(spec, decided) for spec in decided.specs]
        return Explanation(
            namespace=self.namespace,
            name=self.name,
            declared=pod is not None,
            attached=bool(elsewhere),
            uid=(pod.uid if pod else "") or (newest.pod_uid if newest else ""),
            node=node,
            container_id=newest.container_id if newest else "",
            since=to_rfc3339(newest.from_) if newest and elsewhere else None,
            interfaces=tuple(interfaces or self._leased_items()),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    def _foresee(self, spec: InterfaceSpec, *, local: bool) -> None:
        """What would stop ADD at this interface?"""
        if local and spec.backend is not Backend.DELEGATE:
            try:
                self._view().ready_device(spec.network.key)
            except DanmpyError as error:
                self.trouble(error.message, error.hint, error.subject)
        if local and spec.backend is Backend.DELEGATE:
            try:
                _try_delegate(open_delegates(self.settings), spec)
            except DanmpyError as error:
                self.trouble(error.message, error.hint, error.subject)
        if not spec.owns_addresses:
            return
        for family, ask in ((4, spec.ip), (6, spec.ip6)):
            if ask.is_leased:
                self._foresee_address(spec, 4 if family == 4 else 6, ask)

    def _foresee_address(self, spec: InterfaceSpec, family: Family, ask: AddressAsk) -> None:
        audit = self.look.audit
        if audit is None:
            error = self.look.unread()
            self.trouble(f"no address can be leased: {error.message}", error.hint, error.subject)
            return
        if any((each.interface, each.family) == (spec.name, family) for each in self.leases):
            return
        if ask.address is not None:
            for lease in audit.who(ask.address).holders:
                if lease.domain == spec.network.domain:
                    self.trouble(
                        f"interface {spec.index}: {ask.address} is held by {lease.holder}",
                        "ask another address, or delete that pod",
                    )
        elif _free(audit, spec.network, family) == 0:
            self.trouble(
                f"no IPv{family} address is free on {spec.network.key}",
                "danmpy audit usage shows who fills it: widen the pool or delete pods",
            )

    def _future_item(self, spec: InterfaceSpec, decided: Decided) -> dict[str, Any]:
        leases = [lease for lease in self.leases if lease.interface == spec.name]
        asked = [str(ask.address) for ask in (spec.ip, spec.ip6) if ask.address is not None]
        ask = decided.ask_of(spec)
        asked_mac = ask.mac if ask else None
        return {
            **self._base_item(spec, decided),
            "mac": next((lease.mac for lease in leases if lease.mac), asked_mac),
            "addresses": [str(lease.address) for lease in leases] or asked,
            "routes": future_routes(spec),
            "rules": [],
        }

    def _leased_items(self) -> list[dict[str, Any]]:
        """Interfaces of which nothing is known but their leases."""
        names = dict.fromkeys(lease.interface for lease in self.leases)
        items = []
        for name in names:
            leases = [lease for lease in self.leases if lease.interface == name]
            bare = bare_item(LinkRecord(name=name, network=leases[0].network))
            known = {"mac": leases[0].mac, "addresses": [str(each.address) for each in leases]}
            items.append({**bare, **known})
        return items

    # One interface

    def _base_item(self, spec: InterfaceSpec, decided: Decided) -> dict[str, Any]:
        network = spec.network
        segment = network.segment
        device = self.look.report.device_of.get(network.key) or None
        if spec.backend is Backend.DELEGATE:
            device = None
        return {
            "interface": spec.name,
            "network": str(network.key),
            "backend": str(spec.backend),
            "device": device,
            "parent": segment.parent if segment else network.host_device or None,
            "kind": str(segment.kind) if segment else None,
            "id": segment.id if segment else None,
            "mac": None,
            "mtu": spec.mtu or self.look.report.mtu_of.get(device or ""),
            "ip": str(spec.ip.mode),
            "ip6": str(spec.ip6.mode),
            "addresses": [],
            "routes": [],
            "rules": [],
            "reasons": list(
                reasons(
                    spec,
                    decided.ask_of(spec),
                    self.settings.cni.naming_scheme,
                    decided.dialect,
                )
            ),
        }


def _same_uid(pod: PodSpec | None, uid: str) -> bool:
    return pod is None or not pod.uid or not uid or pod.uid == uid


def _decided(
    pod: PodSpec, asks: tuple[InterfaceAsk, ...], view: NetworkView, context: ResolveContext
) -> Decided:
    try:
        specs = resolve(pod, asks, view.networks, context)
    except DanmpyError as error:
        each = examine(pod, asks, view.networks, context)
        problems = [Trouble.of(found) for found in each if isinstance(found, DanmpyError)]
        return Decided(
            asks=asks,
            specs=tuple(found for found in each if isinstance(found, InterfaceSpec)),
            problems=tuple(problems) or (Trouble.of(error),),
        )
    return Decided(asks=asks, specs=specs)


def _try_delegate(delegates: Delegates, spec: InterfaceSpec) -> None:
    """Can the delegate's configuration be rendered? With stand-ins for the addresses to be leased.

    Raises:
        DanmpyError: as `Delegates.render`.
    """
    owned = stand_ins(spec) if spec.owns_addresses else None
    delegates.render(spec.network, addresses=owned, mac=spec.mac, ask=spec.plugin)


def _free(audit: Audit, network: NetworkSpec, family: Family) -> int | None:
    for usage in audit.usage([network]):
        pool = usage.v4 if family == 4 else usage.v6
        return pool.free if pool else None
    return None
