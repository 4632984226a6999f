"""From one call of the shim to its answer."""

import json

from danmpy.api.cni import CniInterface, CniRequest, CniResult
from danmpy.attach.handler import CniHandler
from danmpy.attach.wire import WireRequest
from danmpy.errors import ExhaustedError


class Verbs:
    """Answers ADD, refuses DEL, breaks on CHECK."""

    def add(self, request: CniRequest) -> CniResult:
        return CniResult(interfaces=(CniInterface(name=request.ifname, sandbox=request.netns),))

    def delete(self, request: CniRequest) -> None:
        raise ExhaustedError("full", hint="wait", subject="ClusterNetwork/ext")

    def check(self, request: CniRequest) -> None:
        raise KeyError("oops")

    def collect(self, request: CniRequest) -> None:
        return

    def status(self) -> None:
        return


class Counter:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def observe(self, verb: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        self.seen.append((verb, code))


def call(verb: str, **config: object) -> tuple[int, bytes, Counter]:
    counter = Counter()
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0",
        "CNI_PATH": "/opt/cni/bin",
    }
    stdin = {"cniVersion": "1.1.0", "name": "danmpy", "type": "danmpy-cni", **config}
    answer = CniHandler(Verbs(), counter).answer(
        WireRequest(environ=environ, stdin=json.dumps(stdin).encode())
    )
    return answer.status, answer.stdout, counter


def test_add_prints_its_result_in_the_version_that_was_asked() -> None:
    status, out, counter = call("ADD", cniVersion="0.4.0")
    assert status == 0
    assert json.loads(out)["cniVersion"] == "0.4.0"
    assert json.loads(out)["interfaces"] == [{"name": "eth0", "sandbox": "/run/netns/x"}]
    assert counter.seen == [("ADD", 0)]


def test_an_error_is_one_json_object_with_code_and_the_way_out() -> None:
    status, out, counter = call("DEL")
    assert status == 1
    assert json.loads(out) == {
        "cniVersion": "1.1.0",
        "code": 11,
        "msg": "ClusterNetwork/ext: full (wait)",
    }
    assert counter.seen == [("DEL", 11)]


def test_a_bug_is_answered_with_code_999_and_not_with_silence() -> None:
    status, out, _ = call("CHECK", prevResult={"cniVersion": "1.1.0"})
    assert status == 1
    assert json.loads(out)["code"] == 999


def test_verbs_without_answer_print_nothing() -> None:
    assert call("STATUS")[:2] == (0, b"")
    assert call("GC", **{"cni.dev/valid-attachments": []})[:2] == (0, b"")


def test_a_version_that_is_not_spoken_is_code_1() -> None:
    status, out, _ = call("ADD", cniVersion="9.9.9")
    assert status == 1
    assert json.loads(out)["code"] == 1


def test_a_failed_add_is_told_to_who_wants_to_know_and_nothing_else_is() -> None:
    told: list[tuple[str, str]] = []

    class Full(Verbs):
        def add(self, request: CniRequest) -> CniResult:
            raise ExhaustedError("full", hint="wait", subject="ClusterNetwork/ext")

    def answer(verbs: Verbs, **environ: str) -> int:
        handler = CniHandler(
            verbs, Counter(), lambda call, error: told.append((call.pod_name, str(error)))
        )
        return handler.answer(
            WireRequest(
                environ={
                    "CNI_COMMAND": "ADD",
                    "CNI_CONTAINERID": "c1",
                    "CNI_NETNS": "/run/netns/x",
                    "CNI_IFNAME": "eth0",
                    "CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0",
                    **environ,
                },
                stdin=b'{"cniVersion": "1.1.0", "name": "danmpy", "type": "danmpy-cni"}',
            )
        ).status

    assert answer(Full()) == 1
    assert told == [("web-0", "ClusterNetwork/ext: full (wait)")]
    assert answer(Verbs()) == 0
    assert answer(Verbs(), CNI_COMMAND="DEL") == 1
    assert answer(Full(), CNI_CONTAINERID="") == 1  # no pod is known that it could be about
    assert len(told) == 1
