"""Claims on a real API server are told of the interfaces on their devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from danmpy.attach.journal import AttachmentRecord
from danmpy.attach.values import ClaimedDevice
from danmpy.kube.client import KubeClient
from danmpy.kube.errors import DeniedError
from danmpy.mirrors.attachments import AttachmentReader
from danmpy.mirrors.claim_mirror import ClaimMirror
from support.apiserver import ApiServer
from support.claims import DRIVER, GROUP, POOL, make_claim, serve, told
from support.mirroring import ApiPods, Records

pytestmark = pytest.mark.system


def mirror(client: KubeClient, records: Records, pods: ApiPods) -> ClaimMirror:
    return ClaimMirror(client, AttachmentReader(records, pods.intent))


def on_device(shown: AttachmentRecord, name: str = "vf0", claim: str = "one") -> AttachmentRecord:
    """The same attachment, net1 of which is on a device of a claim."""
    device = ClaimedDevice(claim=claim, driver=DRIVER, pool=POOL, device=name)
    links = tuple(
        replace(link, device_id="a", claimed=device) if link.name == "net1" else link
        for link in shown.links
    )
    return replace(shown, links=links)


@pytest.fixture
def records(apiserver: ApiServer, pods: ApiPods) -> Records:
    """One attachment, on the device vf0 of the claim one."""
    serve(apiserver)
    made = Records()
    made.put(on_device(pods.make(1)))
    return made


ENTRY: dict[str, Any] = {"driver": DRIVER, "pool": POOL, "device": "vf0"}
DATA = {
    "interfaceName": "net1",
    "ips": ["10.1.0.2/24"],
    "hardwareAddress": "02:00:00:00:00:01",
}


def test_a_claim_is_told_of_the_interface_on_its_device(
    apiserver: ApiServer, client: KubeClient, pods: ApiPods, records: Records
) -> None:
    make_claim(apiserver, "one", "vf0", "vf1")
    assert mirror(client, records, pods).run(0.0) is None
    assert told(apiserver, "one") == [{**ENTRY, "networkData": DATA}]


def test_what_drivers_write_there_stays_and_nothing_is_written_twice(
    apiserver: ApiServer, client: KubeClient, pods: ApiPods, records: Records
) -> None:
    make_claim(apiserver, "one", "vf0")
    said = {"devices": [{**ENTRY, "data": {"speed": 25}}]}
    apiserver.patch_status("ResourceClaim", "one", said, "blue")
    written = mirror(client, records, pods)
    written.run(0.0)
    assert told(apiserver, "one") == [{**ENTRY, "data": {"speed": 25}, "networkData": DATA}]
    before = apiserver.get("ResourceClaim", "one", "blue")
    written.run(1.0)
    mirror(client, records, pods).run(2.0)  # the next daemon
    assert apiserver.get("ResourceClaim", "one", "blue") == before


def test_somebody_who_writes_in_the_same_moment_loses_nothing(
    apiserver: ApiServer, client: KubeClient, pods: ApiPods, records: Records
) -> None:
    make_claim(apiserver, "one", "vf0")

    class Racing(KubeClient):
        def get(self, *args: Any, **more: Any) -> dict[str, Any]:
            found = client.get(*args, **more)
            said = {"devices": [{**ENTRY, "data": {"speed": 25}}]}
            apiserver.patch_status("ResourceClaim", "one", said, "blue")
            Racing.get = KubeClient.get  # type: ignore[method-assign] # only this once
            return found

    racing = Racing(client._load)
    written = mirror(racing, records, pods)
    assert written.run(0.0) == 1.0
    written.run(1.0)
    racing.close()
    assert told(apiserver, "one") == [{**ENTRY, "data": {"speed": 25}, "networkData": DATA}]


def test_a_claim_that_is_gone_keeps_nobody_waiting(
    client: KubeClient, pods: ApiPods, records: Records
) -> None:
    assert mirror(client, records, pods).run(0.0) is None


def test_a_server_without_the_group_is_asked_for_nothing_more(
    apiserver: ApiServer, client: KubeClient, pods: ApiPods
) -> None:
    if client.serves(f"{GROUP}/v1"):
        pytest.skip("this API server has the group itself")
    records = Records()
    records.put(on_device(pods.make(1)))
    assert mirror(client, records, pods).run(0.0) is None


def test_a_claim_that_may_not_be_written_holds_up_no_other(
    apiserver: ApiServer, client: KubeClient, pods: ApiPods, records: Records
) -> None:
    make_claim(apiserver, "one", "vf0")
    make_claim(apiserver, "two", "vf0")
    records.put(on_device(pods.make(2), claim="two"))

    class Denied(KubeClient):
        def patch(self, resource: Any, name: str, *args: Any, **more: Any) -> dict[str, Any]:
            if name == "one":
                raise DeniedError("not yours", hint="grant it", subject=name)
            return super().patch(resource, name, *args, **more)

    denied = Denied(client._load)
    assert mirror(denied, records, pods).run(0.0) is not None
    denied.close()
    assert told(apiserver, "one") == []
    assert len(told(apiserver, "two")) == 1
