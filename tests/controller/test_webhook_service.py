from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from danmpy.clock import wall_clock
from danmpy.controller.certificates import Chain, ServedCertificate, renewed
from danmpy.controller.webhook import WebhookServer
from danmpy.controller.webhook_service import WebhookService
from danmpy.errors import ClusterError, DanmpyError, HostError
from danmpy.kube.errors import ClashError, MissingError
from support.netns import wait_until

HOSTS = ("127.0.0.1",)
AWAY = ClusterError("no answer", hint="start it", subject="api")


@dataclass
class World:
    """Where certificates come from and the registration goes to, as a test says."""

    served: ServedCertificate | DanmpyError
    registered: list[bytes] = field(default_factory=list)
    refusal: DanmpyError | None = None
    leading: bool = True

    def read(self) -> ServedCertificate:
        if isinstance(self.served, DanmpyError):
            raise self.served
        return self.served

    def keep(self, bundle: bytes) -> bool:
        if self.refusal is not None:
            raise self.refusal
        self.registered.append(bundle)
        return True


@pytest.fixture
def chain() -> Chain:
    return renewed(None, HOSTS, wall_clock())


@pytest.fixture
def world(chain: Chain) -> World:
    return World(served=chain.served)


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    made = WebhookServer(("127.0.0.1", 0), lambda body: {"length": len(body)})
    yield made
    made.close()


@pytest.fixture
def service(world: World, server: WebhookServer) -> WebhookService:
    server.bind()
    return WebhookService(server, world, keep=world.keep, leading=lambda: world.leading)


def trusts(server: WebhookServer, bundle: bytes) -> bool:
    context = ssl.create_default_context(cadata=bundle.decode())
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except ssl.SSLCertVerificationError:
            return False


def test_it_serves_once_there_is_a_certificate(
    world: World, server: WebhookServer, service: WebhookService, chain: Chain
) -> None:
    assert service.ready() == "the webhook has no certificate yet"
    world.served = AWAY
    service.look()
    assert service.ready() == str(AWAY)
    world.served = chain.served
    service.look()
    assert service.ready() == ""
    assert trusts(server, chain.served.ca_bundle)
    assert world.registered == [chain.served.ca_bundle]


def test_a_new_certificate_is_taken_up_and_trouble_keeps_the_old_one(
    world: World, server: WebhookServer, service: WebhookService, chain: Chain
) -> None:
    service.look()
    other = renewed(None, HOSTS, wall_clock()).served
    for trouble in (AWAY, ServedCertificate(certificate=b"x", key=b"y")):
        world.served = trouble
        service.look()
        assert service.ready() == ""
        assert trusts(server, chain.served.ca_bundle)
    world.served = other
    service.look()
    assert trusts(server, other.ca_bundle)
    assert not trusts(server, chain.served.ca_bundle)


def test_only_who_leads_keeps_the_registration_and_does_so_at_every_look(
    world: World, server: WebhookServer, service: WebhookService
) -> None:
    world.leading = False
    service.look()
    assert (world.registered, service.ready()) == ([], "")
    world.leading = True
    service.look()
    service.look()
    assert len(world.registered) == 2, "somebody may have applied the manifest anew"


def test_the_registration_trusts_a_new_authority_before_it_serves(
    world: World, server: WebhookServer, chain: Chain
) -> None:
    order: list[str] = []

    class Watched(WebhookServer):
        def use(self, served: ServedCertificate) -> None:
            order.append("served")

    watched = Watched(("127.0.0.1", 0), lambda _: {})
    service = WebhookService(
        watched, world, keep=lambda _: bool(order.append("trusted")), leading=lambda: True
    )
    service.look()
    assert order == ["trusted", "served"]


@pytest.mark.parametrize(
    "refusal",
    [
        MissingError("none", hint="apply it", subject="registration"),
        ClashError("changed", hint="again", subject="registration"),
        AWAY,
    ],
)
def test_a_registration_that_cannot_be_kept_does_not_stop_the_webhook(
    world: World, service: WebhookService, refusal: DanmpyError
) -> None:
    world.refusal = refusal
    service.look()
    assert service.ready() == ""
    world.refusal = None
    service.look()
    assert len(world.registered) == 1


def test_without_an_authority_the_registration_is_somebody_elses(
    world: World, service: WebhookService, chain: Chain
) -> None:
    world.served = ServedCertificate(
        certificate=chain.served.certificate, key=chain.served.key, ca_bundle=b""
    )
    service.look()
    assert (world.registered, service.ready()) == ([], "")


def test_it_looks_by_itself_until_it_is_closed(world: World, chain: Chain) -> None:
    server = WebhookServer(("127.0.0.1", 0), lambda body: {"length": len(body)})
    service = WebhookService(server, world, keep=world.keep, leading=lambda: True, look_s=0.01)
    service.start()
    try:
        wait_until(lambda: len(world.registered) > 3, what="several looks")
        assert trusts(server, chain.served.ca_bundle)
    finally:
        service.close()
    looked = len(world.registered)
    assert service.ready() != ""
    assert len(world.registered) == looked


def test_a_port_that_is_taken_is_told_at_start(
    world: World, server: WebhookServer, service: WebhookService
) -> None:
    service.look()
    second = WebhookService(
        WebhookServer(("127.0.0.1", server.port), lambda _: {}),
        world,
        keep=world.keep,
        leading=lambda: True,
    )
    with pytest.raises(HostError):
        second.start()
    second.close()


def test_trouble_is_logged_once_and_again_when_it_changes(
    world: World, service: WebhookService
) -> None:
    with structlog.testing.capture_logs() as logs:
        world.served = AWAY
        for _ in range(3):
            service.look()
        world.served = HostError("another", hint="look", subject="x")
        service.look()
    told: list[Any] = [each["error"] for each in logs if each["log_level"] == "warning"]
    assert told == [str(AWAY), str(world.served)]
