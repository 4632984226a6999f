"""The trace context of the call that is being served."""

from __future__ import annotations

import json
from threading import Thread

import pytest

from danmpy.api.dialects.rules import DialectRules
from danmpy.attach.delegates.tracing import current_trace, tracing
from danmpy.attach.handler import CniHandler
from danmpy.attach.wire import WireRequest
from support.attaching import AttachNode
from support.netns import Namespace
from support.recording import Bench

TRACE = {"TRACEPARENT": "00-ab-cd-01", "TRACESTATE": "a=b", "BAGGAGE": "k=v"}


def test_a_context_ends_with_its_call_and_is_its_own_thread_s() -> None:
    seen = []
    with tracing(TRACE):
        with tracing({}):
            seen.append(current_trace())
        seen.append(current_trace())
        other = Thread(target=lambda: seen.append(current_trace()))
        other.start()
        other.join()
    with pytest.raises(KeyError), tracing(TRACE):
        raise KeyError
    assert [*map(dict, seen), dict(current_trace())] == [{}, TRACE, {}, {}]


class Nobody:
    def observe(self, verb: str, code: int, seconds: float) -> None:
        return


def test_every_verb_that_reaches_a_plugin_brings_it_the_context_of_its_call(
    node: AttachNode, pod: Namespace
) -> None:
    node.close()
    node.rules = DialectRules(default_network="lan")
    node.open()
    node.add_pod("web")
    for folder in (node.bin_dir, node.conf_dir):
        folder.mkdir(exist_ok=True)
    bench = Bench(node.bin_dir)
    bench.plugin("first")
    conf = {"cniVersion": "1.1.0", "name": "lan", "type": "first"}
    (node.conf_dir / "lan.conf").write_text(json.dumps(conf))
    handler = CniHandler(node.attacher, Nobody())
    result: object = None
    for verb in ("STATUS", "ADD", "CHECK", "GC", "DEL"):
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c-web",
            "CNI_NETNS": str(pod.path),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web",
            "TRACEPARENT": f"00-{verb}",
            "BAGGAGE": "k=v",
        }
        valid = [{"containerID": "c-web", "ifname": "eth0"}]
        more = {"prevResult": result, "cni.dev/valid-attachments": valid}
        stdin = {"cniVersion": "1.1.0", "name": "danmpy", "type": "danmpy-cni"}
        stdin |= {key: value for key, value in more.items() if value}
        answer = handler.answer(WireRequest(environ=environ, stdin=json.dumps(stdin).encode()))
        assert answer.status == 0, answer.stdout
        result = json.loads(answer.stdout) if verb == "ADD" else result
    seen = {call["verb"]: call["environ"].get("TRACEPARENT") for call in bench.calls}
    assert seen == {verb: f"00-{verb}" for verb in ("STATUS", "ADD", "CHECK", "GC", "DEL")}
    assert all(call["environ"]["BAGGAGE"] == "k=v" for call in bench.calls)
    node.attacher.status()
    assert "TRACEPARENT" not in bench.calls[-1]["environ"]
