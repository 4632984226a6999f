"""Admission on a real API server: the registration, TLS, and what people see of a refusal."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from danmpy.api.specs import DANM_KINDS, NetworkKind
from danmpy.clock import wall_clock
from danmpy.controller.registration import Registration, render_registration
from danmpy.db.engine import open_engine
from danmpy.ipam.leases import LeaseOwner, LeaseRequest, LeaseStore
from danmpy.ipam.nodereports import NodeNetwork
from support.admitting import Replica
from support.apiclient import ADMIN, RefusedError
from support.apiserver import ApiServer
from support.manifests import GROUP_VERSION, config_manifest, network_manifest
from support.nads import NAD_CRD, nad_manifest
from support.netns import wait_until
from support.specs import DYNAMIC, cluster_key, network, tenant_key

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

Replicas = Callable[..., Replica]

PROFILE = {"name": "ens4", "vniType": "vxlan", "vniRange": "700-710"}
CONFIG = config_manifest(PROFILE)
INTERNAL = network_manifest("TenantNetwork", "internal", "blue", cidr="10.0.0.0/24")
STORAGE = network_manifest("ClusterNetwork", "storage", host_device="ens4", vxlan=900,
                           cidr="10.1.0.0/24")  # fmt: skip


@pytest.fixture
def replicas(apiserver: ApiServer, sqlite_engine: Engine) -> Iterator[Replicas]:
    """Makes replicas of the controller's admission, on one database."""
    made: list[Replica] = []
    apiserver.make_namespace("danmpy")
    apiserver.make_namespace("blue")

    def make(**words: Any) -> Replica:
        made.append(Replica(apiserver, sqlite_engine, **words))
        return made[-1]

    try:
        yield make
    finally:
        for replica in made:
            replica.close()


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    engine = open_engine(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def webhook(apiserver: ApiServer, replicas: Replicas) -> Replica:
    """One replica that serves, and is registered."""
    return registered(apiserver, replicas().start())


def registered(apiserver: ApiServer, replica: Replica) -> Replica:
    apiserver.apply(render_registration(Registration()))
    wait_until(lambda: judged(apiserver), what="reviews arrive", seconds=20, every=0.1)
    return replica


def judged(apiserver: ApiServer) -> bool:
    """Does a review of something wrong come back with our words?"""
    status, answer = send(apiserver, "POST", network_manifest(name="probe", cidr="x"), dry=True)
    return status == 422 and "spec.Options.cidr" in answer["message"]


def path_of(apiserver: ApiServer, body: dict[str, Any], *, named: bool) -> str:
    metadata = body["metadata"]
    return apiserver.path(
        body["apiVersion"],
        body["kind"],
        metadata["name"] if named else "",
        metadata.get("namespace", ""),
    )


def send(
    apiserver: ApiServer, method: str, body: dict[str, Any], *, dry: bool = False
) -> tuple[int, Any]:
    """As kubectl does it; PUT goes over what is there."""
    path = path_of(apiserver, body, named=method != "POST") + ("?dryRun=All" if dry else "")
    if method == "PUT":
        current = apiserver.request("GET", path)[1]["metadata"]
        kept = {key: current[key] for key in ("resourceVersion", "uid")}
        body = {**body, "metadata": {**body["metadata"], **kept}}
    return apiserver.request(method, path, None if method == "DELETE" else body)


def lease(engine: Engine, pod: str, of: Any) -> None:
    owner = LeaseOwner(namespace="blue", pod=pod, pod_uid=pod, container_id=pod, node="n")
    LeaseStore(engine, wall_clock, 120).bind(
        owner, [LeaseRequest(interface="eth0", network=of, ip=DYNAMIC)]
    )


def pod(name: str, annotation: str, namespace: str = "blue", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"danm.k8s.io/interfaces": annotation},
        },
        "spec": {"containers": [{"name": "main", "image": "none"}], **spec},
    }


# What is refused


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("kind", DANM_KINDS)
def test_a_wrong_network_is_refused_with_every_field_and_nothing_is_stored(
    apiserver: ApiServer, webhook: Replica, kind: NetworkKind, dry: bool
) -> None:
    apiserver.apply(CONFIG)
    wrong = network_manifest(
        kind, "wrong", "" if kind is NetworkKind.CLUSTER else "blue",
        cidr="10.0.0.0/24", routes={"10.9.0.0/16": "10.1.0.1"}, gatewy="10.0.0.1",
    )  # fmt: skip
    status, answer = send(apiserver, "POST", wrong, dry=dry)
    assert (status, answer["reason"]) == (422, "Invalid")
    (cause,) = answer["details"]["causes"]
    assert cause["field"] == "spec.Options.gatewy"
    assert "did you mean gateway?" in cause["message"]
    del wrong["spec"]["Options"]["gatewy"]
    wrong["spec"]["Options"]["mtu"] = 1000
    wrong["spec"]["Options"]["net6"] = "2001:db8::/64"
    status, answer = send(apiserver, "POST", wrong, dry=dry)
    assert [each["field"] for each in answer["details"]["causes"]] == [
        "spec.Options.routes.10.9.0.0/16", "spec.Options.mtu"
    ]  # fmt: skip
    place = "" if kind is NetworkKind.CLUSTER else "blue/"
    assert f'"networks.danm.k8s.io" denied the request: {kind}/{place}wrong: ' in answer["message"]
    assert apiserver.get(str(kind), "wrong", "blue") is None


def test_a_nad_that_nobody_could_use_is_refused_and_those_of_others_pass(
    apiserver: ApiServer, webhook: Replica
) -> None:
    apiserver.apply(NAD_CRD)
    apiserver.wait_crds_established()
    status, answer = send(apiserver, "POST", nad_manifest("wrong", text="{"))
    assert (status, answer["reason"]) == (422, "Invalid")
    assert '"net-attach-defs.danm.k8s.io" denied the request' in answer["message"]
    assert [each["field"] for each in answer["details"]["causes"]] == ["spec.config"]
    assert send(apiserver, "POST", nad_manifest("n", type="theirs", vlan={"any": 1}))[0] == 201
    status, answer = send(apiserver, "PUT", nad_manifest("n", type="../theirs"))
    assert status == 422
    assert send(apiserver, "DELETE", nad_manifest("n"))[0] == 200
    del webhook


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (network_manifest("TenantNetwork", "a", "blue", more={"Option": {}}), "spec.Option"),
        (network_manifest("TenantNetwork", "a", "blue", allocation_pool={"star": "10.0.0.1"}),
            "spec.Options.allocation_pool.star"),
        (network_manifest("ClusterNetwork", "a") | {"metdata": {}}, "metdata"),
        (config_manifest({"name": "a", "vniTyp": "vlan"}), "hostDevices[0].vniTyp"),
        (config_manifest({"name": "a"}, networkId={}), "networkId"),
    ],
)  # fmt: skip
def test_the_server_keeps_unknown_fields_so_that_they_are_named(
    apiserver: ApiServer, webhook: Replica, body: dict[str, Any], field: str
) -> None:
    apiserver.apply(CONFIG | {"metadata": {"name": "other"}})
    status, answer = send(apiserver, "POST", body)
    assert status == 422, answer
    (cause,) = answer["details"]["causes"]
    assert cause["field"] == field
    assert "did you mean" in cause["message"]


def test_a_tenant_stays_inside_its_profiles(apiserver: ApiServer, webhook: Replica) -> None:
    status, answer = send(apiserver, "POST", INTERNAL)
    assert status == 422
    assert "there is no TenantConfig" in answer["message"]
    apiserver.apply(CONFIG)
    for words in ({"vlan": 5}, {"vxlan": 5}, {"host_device": "eth9"}):
        wrong = network_manifest("TenantNetwork", "wrong", "blue", **words)
        status, answer = send(apiserver, "POST", wrong)
        assert status == 422
        assert f"spec.Options.{next(iter(words))}" in answer["message"]
    assert send(apiserver, "POST", INTERNAL)[0] == 201


def test_a_config_and_its_network_in_one_file_are_both_accepted(
    apiserver: ApiServer, webhook: Replica
) -> None:
    """The network comes before the watch has told of the TenantConfig."""
    for number in range(5):
        apiserver.apply(config_manifest({"name": f"eth{number}"}, name=f"c{number}"))
        new = network_manifest("TenantNetwork", f"n{number}", "blue", host_device=f"eth{number}")
        assert send(apiserver, "POST", new)[0] == 201


def test_the_spec_is_stored_as_it_was_written(apiserver: ApiServer, webhook: Replica) -> None:
    apiserver.apply(CONFIG)
    for body in (INTERNAL, STORAGE):
        assert apiserver.create(body)["spec"] == body["spec"]


# What is in use


def test_a_network_in_use_is_neither_deleted_nor_moved_and_may_change_otherwise(
    apiserver: ApiServer, webhook: Replica, sqlite_engine: Engine
) -> None:
    apiserver.apply(STORAGE)
    spec = network(cluster_key("storage"), v4="10.1.0.0/24", vni=900)
    for name in ("web-0", "web-1"):
        lease(sqlite_engine, name, spec)
    status, answer = send(apiserver, "DELETE", STORAGE)
    assert (status, answer["reason"]) == (409, "Conflict")
    assert "2 addresses held, one of them by Pod/blue/web-0" in answer["message"]

    def changed(**options: Any) -> tuple[int, Any]:
        body = json.loads(json.dumps(STORAGE))
        body["spec"]["Options"] |= options
        return send(apiserver, "PUT", body)

    for words, told in (
        ({"vxlan": 901}, "vxlan changes from 900 to 901"),
        ({"host_device": "ens9"}, "host_device changes"),
        ({"cidr": "10.2.0.0/24"}, "Pod/blue/web-0 holds 10.1.0.1 and 1 more"),
        ({"exclude": ["10.1.0.1"]}, "Pod/blue/web-0 holds 10.1.0.1"),
        ({"allocation_pool": {"start": "10.1.0.100"}}, "allocation_pool"),
    ):
        status, answer = changed(**words)
        assert (status, answer["reason"]) == (403, "Forbidden"), words
        assert told in answer["message"]
    for words in (
        {"routes": {"10.9.0.0/16": "10.1.0.254"}},
        {"mtu": 1400},
        {"cidr": "10.1.0.0/23"},
    ):
        assert changed(**words)[0] == 200, words
    for name in ("web-0", "web-1"):
        LeaseStore(sqlite_engine, wall_clock, 120).release(name)
    row = NodeNetwork(network="ClusterNetwork/storage", ready=True, attached=1)
    webhook.reports.write("n1", {row.network: row})
    status, answer = send(apiserver, "DELETE", STORAGE)
    assert "nodes report 1 interface" in answer["message"]
    webhook.reports.write("n1", {})
    assert send(apiserver, "DELETE", STORAGE)[0] == 200


def test_deleting_all_networks_of_a_namespace_asks_for_each(
    apiserver: ApiServer, webhook: Replica, sqlite_engine: Engine
) -> None:
    """As the namespace controller does."""
    apiserver.apply(CONFIG)
    for name in ("a", "b"):
        apiserver.apply(network_manifest("TenantNetwork", name, "blue", cidr="10.0.0.0/24"))
    lease(sqlite_engine, "web-0", network(tenant_key("a"), v4="10.0.0.0/24"))
    path = apiserver.path(GROUP_VERSION, "TenantNetwork", "", "blue")
    status, answer = apiserver.request("DELETE", path)
    assert status == 409
    assert "TenantNetwork/blue/a" in answer["message"]
    LeaseStore(sqlite_engine, wall_clock, 120).release("web-0")
    assert apiserver.request("DELETE", path)[0] == 200
    assert apiserver.list("TenantNetwork", "blue") == []


def test_a_wire_of_a_tenant_is_not_given_away_and_a_config_in_use_stays(
    apiserver: ApiServer, webhook: Replica
) -> None:
    apiserver.apply(CONFIG)
    apiserver.apply(INTERNAL)
    wait_until(lambda: tenant_key("internal") in webhook.source.read().networks, what="heard")
    intent = webhook.source.read()
    assigned = webhook.segments.assign(intent.networks, intent.tenant_configs)
    segment = assigned.networks[tenant_key("internal")].segment
    assert segment is not None
    taken = network_manifest("ClusterNetwork", "taken", host_device="ens9", vxlan=segment.id)
    status, answer = send(apiserver, "POST", taken)
    assert (status, answer["reason"]) == (409, "Conflict")
    assert "is assigned to TenantNetwork/blue/internal" in answer["message"]
    smaller = config_manifest(PROFILE | {"vniRange": "705-710"})
    status, answer = send(apiserver, "PUT", smaller)
    assert status == 403
    assert (
        f"vxlan {segment.id} on ens4 is assigned to TenantNetwork/blue/internal"
        in (answer["message"])
    )
    status, answer = send(apiserver, "DELETE", CONFIG)
    assert status == 409
    assert "TenantNetwork/blue/internal" in answer["message"]
    overlapping = config_manifest(PROFILE, name="second")
    status, answer = send(apiserver, "POST", overlapping)
    assert (status, answer["reason"]) == (409, "Conflict")
    assert "hostDevices[0].vniRange" in answer["message"]


def test_what_is_in_the_database_is_not_guessed_while_it_is_away(
    apiserver: ApiServer, webhook: Replica, sqlite_url: str
) -> None:
    apiserver.apply(STORAGE)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    aside = file.rename(file.with_suffix(".aside"))
    status, answer = send(apiserver, "DELETE", STORAGE)
    assert status == 503
    assert "it cannot be judged now: " in answer["message"]
    aside.rename(file)
    assert send(apiserver, "DELETE", STORAGE)[0] == 200


def test_metadata_and_status_of_a_network_that_breaks_a_rule_stay_free(
    apiserver: ApiServer, replicas: Replicas
) -> None:
    broken = network_manifest("ClusterNetwork", "broken", cidr="nonsense", surprise=5)
    broken["metadata"]["finalizers"] = ["danm.k8s.io/network"]
    apiserver.create(broken)  # before the webhook came
    registered(apiserver, replicas().start())
    apiserver.patch("ClusterNetwork", "broken", {"metadata": {"labels": {"a": "b"}}})
    apiserver.patch_status("ClusterNetwork", "broken", {"device": "ens4"})
    with pytest.raises(RefusedError) as caught:
        apiserver.patch("ClusterNetwork", "broken", {"spec": {"NetworkID": "other"}})
    assert caught.value.status == 422
    apiserver.delete("ClusterNetwork", "broken")
    found = apiserver.get("ClusterNetwork", "broken")
    assert found is not None
    assert found["metadata"]["deletionTimestamp"]
    apiserver.delete("ClusterNetwork", "broken")
    apiserver.patch("ClusterNetwork", "broken", {"metadata": {"finalizers": None}})
    assert apiserver.get("ClusterNetwork", "broken") is None


# Pods


def test_pods_that_cannot_work_are_refused_at_creation(
    apiserver: ApiServer, webhook: Replica
) -> None:
    apiserver.apply(CONFIG)
    apiserver.apply(INTERNAL)
    good = json.dumps([{"tenantNetwork": "internal", "ip": "dynamic"}])
    assert send(apiserver, "POST", pod("good", good))[0] == 201
    for name, annotation, told in (
        ("none", '[{"tenantNetwork": "none"}]', "TenantNetwork/blue/none: there is no such"),
        ("bad", "[{", "no JSON"),
        ("far", '[{"tenantNetwork": "internal", "ip": "10.9.9.9"}]', "not in 10.0.0.0/24"),
    ):
        status, answer = send(apiserver, "POST", pod(name, annotation))
        assert (status, answer["reason"]) == (422, "Invalid")
        assert told in answer["message"]
        assert f"Pod/blue/{name}" in answer["message"]
    nowhere = '[{"tenantNetwork": "none"}]'
    assert send(apiserver, "POST", pod("a", nowhere, "kube-system"))[0] == 201
    apiserver.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "green", "labels": {"danm.k8s.io/admission": "ignore"}
        }}
    )  # fmt: skip
    assert send(apiserver, "POST", pod("a", nowhere, "green"))[0] == 201
    assert send(apiserver, "POST", pod("b", nowhere, hostNetwork=True))[0] == 201


def warnings_of(apiserver: ApiServer, body: dict[str, Any]) -> tuple[int, list[str]]:
    context = ssl.create_default_context(cafile=str(apiserver.ca_file))
    connection = http.client.HTTPSConnection("127.0.0.1", apiserver.port, context=context)
    try:
        connection.request(
            "POST",
            path_of(apiserver, body, named=False),
            json.dumps(body),
            {
                "Content-Type": "application/json",
                "Authorization": f"Bearer {apiserver.tokens[ADMIN]}",
            },
        )
        answer = connection.getresponse()
        return answer.status, answer.msg.get_all("Warning") or []
    finally:
        connection.close()


def test_warnings_reach_whoever_asked(apiserver: ApiServer, replicas: Replicas) -> None:
    replica = registered(apiserver, replicas(deny=False).start())
    apiserver.apply(CONFIG)
    status, told = warnings_of(apiserver, pod("none", '[{"tenantNetwork": "none"}]'))
    assert status == 201
    assert "there is no such network" in told[0]
    new = network_manifest("ClusterNetwork", "inside", host_device="ens4", vxlan=705)
    wait_until(lambda: replica.source.read().tenant_configs, what="heard of the config")
    status, told = warnings_of(apiserver, new)
    assert status == 201
    assert "vniRange of a TenantConfig" in told[0]


# The webhook itself


def test_a_webhook_that_is_down_closes_networks_and_leaves_pods_open(
    apiserver: ApiServer, webhook: Replica
) -> None:
    apiserver.apply(STORAGE)
    webhook.stop_serving()
    for method, body in (("POST", CONFIG), ("POST", INTERNAL), ("DELETE", STORAGE)):
        status, answer = send(apiserver, method, body)
        assert status == 500
        assert "failed calling webhook" in answer["message"]
    assert send(apiserver, "POST", pod("a", "nonsense"))[0] == 201


def test_two_replicas_share_one_certificate_and_either_may_lead(
    apiserver: ApiServer, replicas: Replicas
) -> None:
    one, other = replicas(), replicas()
    threads = [threading.Thread(target=each.start) for each in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.leads, other.leads = True, False
    registered(apiserver, one)
    one.leads, other.leads = False, True
    registered(apiserver, other)
    wait_until(
        lambda: used_port(apiserver) == other.server.port, what="the other keeps it", seconds=10
    )
    assert judged(apiserver)


def used_port(apiserver: ApiServer) -> int:
    found = apiserver.get("ValidatingWebhookConfiguration", "danmpy")
    assert found is not None
    url = found["webhooks"][0]["clientConfig"].get("url", "")
    return int(url.split(":")[2].partition("/")[0] or 0) if url else 0


def test_certificates_are_renewed_under_traffic_without_a_refusal(
    apiserver: ApiServer, webhook: Replica
) -> None:
    """Another host name makes another certificate, as age does: what the server is shown has to be
    valid by its own clock."""
    stop = threading.Event()
    failures: list[Any] = []
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not stop.is_set():
            status, answer = send(apiserver, "POST", network_manifest(name=f"n{asked}"), dry=True)
            asked += 1
            if status != 201:
                failures.append(answer)

    def secret() -> str:
        found = apiserver.get("Secret", "danmpy-webhook-tls", "danmpy")
        return str(found and found["data"]["tls.crt"])

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        seen = {secret()}
        for number in range(1, 6):
            webhook.certificates._hosts = ["127.0.0.1", f"n{number}.example.com"]
            wait_until(lambda: secret() not in seen, what="renewed", seconds=10)
            seen.add(secret())
            time.sleep(0.4)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert asked > 20
    assert len(seen) == 6


def test_a_registration_that_is_applied_again_is_made_whole(
    apiserver: ApiServer, webhook: Replica
) -> None:
    apiserver.apply(render_registration(Registration()))
    wait_until(lambda: judged(apiserver), what="reviews arrive again", seconds=10)


def test_what_danm_users_do_step_by_step_ends_as_they_know_it(
    apiserver: ApiServer, webhook: Replica
) -> None:
    """The walk through DANM 4's production API: a wrong and a right TenantConfig, networks with a
    segment of their own, with a chosen device, with any, with a foreign one, of a delegate."""

    def ends(expected: int, kind: str, name: str, namespace: str = "", **body: Any) -> None:
        metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
        manifest = {"apiVersion": GROUP_VERSION, "kind": kind, "metadata": metadata, **body}
        status, answer = send(apiserver, "POST", manifest)
        assert status == expected, (name, answer)

    def spec(network_id: str, network_type: str, **options: Any) -> dict[str, Any]:
        return {"NetworkID": network_id, "NetworkType": network_type} | (
            {"Options": options} if options else {}
        )

    def pool(part: int) -> dict[str, Any]:
        return {
            "rt_tables": 200,
            "cidr": f"10.24{part}.1.0/24",
            "allocation_pool": {"start": f"10.24{part}.1.100", "end": f"10.24{part}.1.200"},
        }

    ends(201, "TenantNetwork", "boot", "kube-system", spec=spec("flannel", "flannel"))
    ids = {"flannel": "flannel"}
    half = [{"name": "ens4", "vniType": "vlan"}]
    ends(422, "TenantConfig", "wrong", hostDevices=half, networkIds=ids)
    devices = [
        {"name": "ens4", "vniType": "vlan", "vniRange": "1000-2000"},
        {"name": "ens5", "vniType": "vlan", "vniRange": "2000-3000"},
    ]
    ends(201, "TenantConfig", "right", hostDevices=devices, networkIds=ids)
    with_vlan = spec("internal", "ipvlan", host_device="ens4", vlan=700, **pool(0))
    ends(422, "TenantNetwork", "internal", "blue", spec=with_vlan)
    chosen = spec("internal", "ipvlan", host_device="ens4", container_prefix="int", **pool(0))
    ends(201, "TenantNetwork", "internal", "blue", spec=chosen)
    ends(201, "TenantNetwork", "any", "blue", spec=spec("any", "ipvlan", **pool(1)))
    foreign = spec("foreign", "ipvlan", host_device="ens6", **pool(2))
    ends(422, "TenantNetwork", "foreign", "blue", spec=foreign)
    ends(201, "TenantNetwork", "management", "blue", spec=spec("by-me", "flannel"))
    default = spec("flannel", "flannel") | {"AllowedTenants": ["default"]}
    ends(201, "ClusterNetwork", "default", spec=default)
    external = spec("external", "ipvlan", host_device="ens4", vlan=500, **pool(3))
    ends(201, "ClusterNetwork", "external", spec=external)
    ends(201, "DanmNet", "vf", "blue", spec=spec(
        "vf", "sriov", device_pool="example.com/vf", vlan=250, **pool(4)
    ))  # fmt: skip
    for name, expected, entries in (
        ("wrong", 422, [{"tenantNetwork": "management", "clusterNetwork": "external"}]),
        ("right", 201, [
            {"tenantNetwork": "management", "ip": "dynamic"},
            {"clusterNetwork": "external", "ip": "dynamic"},
            {"tenantNetwork": "internal", "ip": "dynamic"},
        ]),
        ("vf", 201, [{"tenantNetwork": "management", "ip": "dynamic"},
                     {"network": "vf", "ip": "none"}]),
    ):  # fmt: skip
        status, answer = send(apiserver, "POST", pod(name, json.dumps(entries)))
        assert status == expected, answer
