"""From Multus's configuration to settings: every key is mapped, or named with its reason."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from danmpy.convert.multus import conf_folders, convert_multus, references
from danmpy.convert.multus_keys import FIXED, KNOWN
from danmpy.convert.values import Converted, FoundConf, Note, Verdict
from danmpy.errors import IntentError
from danmpy.settings import Settings

FLANNEL = {
    "cniVersion": "0.3.1",
    "name": "cbr0",
    "plugins": [{"type": "flannel"}, {"type": "portmap", "capabilities": {"portMappings": True}}],
}
MACVLAN = {"cniVersion": "0.3.1", "name": "data", "type": "macvlan", "master": "eth1"}
CBR0 = FoundConf(path="/etc/cni/net.d/10-flannel.conflist", document=FLANNEL)
DATA = FoundConf(path="/etc/cni/multus/net.d/data.conf", document=MACVLAN)


def multus(*confs: FoundConf, write_dir: str = "", **keys: Any) -> Converted:
    """What becomes of a plugin's configuration with these keys."""
    return convert_multus({"type": "multus", **keys}, "00-multus.conf", confs, write_dir)


def daemon(*confs: FoundConf, **keys: Any) -> Converted:
    return convert_multus({"chrootDir": "/hostroot", **keys}, "daemon-config.json", confs)


def of(converted: Converted, setting: str) -> Any:
    group, _, name = setting.partition(".")
    return converted.settings.get(group, {}).get(name)


def note(converted: Converted, key: str) -> Note:
    (found,) = (each for each in converted.notes if each.key.removesuffix(" (default)") == key)
    return found


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(IntentError) as caught:
        convert_multus(document, "x.conf")
    assert caught.value.subject == "x.conf"
    return caught.value.message


# The default network


def test_inline_delegates_become_the_default_network_and_files() -> None:
    converted = multus(delegates=[FLANNEL, MACVLAN])
    assert of(converted, "npwg.default_network") == "cbr0"
    assert of(converted, "npwg.more_networks") == ["data"]
    flannel, data = converted.files
    assert (flannel.name, flannel.document) == ("cbr0", FLANNEL)
    assert data.document == {
        "cniVersion": "0.3.1",
        "name": "data",
        "plugins": [{"type": "macvlan", "master": "eth1"}],
    }
    assert [step for step in converted.steps if "cbr0.conflist" in step]
    # Multus attaches further delegates in every namespace, not as it does defaultNetworks.
    assert of(converted, "npwg.system_namespaces") == []


def test_one_delegate_leaves_the_system_namespaces_alone() -> None:
    assert of(multus(delegates=[FLANNEL]), "npwg.system_namespaces") is None
    kept = multus(delegates=[FLANNEL], systemNamespaces=["infra"])
    assert of(kept, "npwg.system_namespaces") == ["infra"]


def test_delegates_without_a_usable_name_get_one_and_never_the_same() -> None:
    nameless = {"type": "ptp"}
    converted = multus(delegates=[nameless, {"name": "../x", "type": "a"}, MACVLAN, FLANNEL])
    names = [each.name for each in converted.files]
    assert names == ["multus-delegate-0", "multus-delegate-1", "data", "cbr0"]
    assert converted.files[1].document["name"] == "multus-delegate-1"
    other = {**MACVLAN, "master": "eth2"}
    assert [each.name for each in multus(delegates=[MACVLAN, other]).files] == ["data", "data-1"]
    assert len(multus(delegates=[MACVLAN, MACVLAN]).files) == 1


def test_a_network_by_name_is_a_nad_unless_a_configuration_has_it() -> None:
    converted = multus(DATA, clusterNetwork="cbr0", defaultNetworks=["data", "other"])
    assert of(converted, "npwg.default_network") == "kube-system/cbr0"
    assert of(converted, "npwg.more_networks") == ["data", "kube-system/other"]
    assert "prefers a NetworkAttachmentDefinition" in note(converted, "defaultNetworks").words
    assert converted.files == ()  # the file is where the settings look


def test_names_are_looked_up_in_multus_s_own_namespace() -> None:
    converted = multus(clusterNetwork="net", multusNamespace="infra")
    assert of(converted, "npwg.default_network") == "infra/net"
    assert of(converted, "npwg.system_namespace") == "infra"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/cni/net.d/10-flannel.conflist",
        "/host/etc/cni/net.d/10-flannel.conflist",
        "/etc/cni/net.d/",
        "/elsewhere/10-flannel.conflist",
    ],
)
def test_a_network_by_path_is_called_by_the_name_in_the_file(path: str) -> None:
    converted = multus(DATA, CBR0, clusterNetwork=path)
    assert of(converted, "npwg.default_network") == "cbr0"
    (file,) = converted.files  # as it lies in another folder than the settings say
    assert file.document == FLANNEL
    assert not converted.has_findings


def test_of_a_folder_multus_takes_the_first_by_name_list_or_not() -> None:
    single = FoundConf(path="/etc/cni/net.d/05-data.conf", document=MACVLAN)
    converted = multus(CBR0, single, clusterNetwork="/etc/cni/net.d")
    assert of(converted, "npwg.default_network") == "data"
    assert of(daemon(CBR0, single), "npwg.default_network") == "data"


def test_a_path_that_could_not_be_read_is_left_to_a_person() -> None:
    converted = multus(clusterNetwork="/etc/cni/net.d/05-x.conf")
    assert of(converted, "npwg.default_network") is None
    found = note(converted, "clusterNetwork")
    assert (found.verdict, found.setting) == (Verdict.BY_HAND, "npwg.default_network")
    assert "--conf-dir" in found.words
    assert converted.has_findings


@pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "a b"])
def test_what_is_neither_a_name_nor_a_path_is_left_to_a_person_and_is_no_file(name: str) -> None:
    conf = FoundConf(path="/x/y.conf", document={**MACVLAN, "name": name})
    converted = multus(conf, clusterNetwork=name)
    assert note(converted, "clusterNetwork").verdict is Verdict.BY_HAND
    assert converted.files == ()


def test_a_name_that_no_object_can_have_is_that_of_a_configuration() -> None:
    side = FoundConf(path="/x/side.conf", document={**MACVLAN, "name": "sidecarCRD"})
    converted = multus(DATA, side, clusterNetwork="data", defaultNetworks=["sidecarCRD"])
    assert of(converted, "npwg.more_networks") == ["sidecarCRD"]
    assert "NetworkAttachmentDefinition" not in note(converted, "defaultNetworks").words
    assert [each.name for each in converted.files] == ["sidecarCRD"]
    assert not converted.has_findings


def test_a_name_that_no_object_can_have_and_no_configuration_has_is_left_to_a_person() -> None:
    converted = multus(DATA, clusterNetwork="data", defaultNetworks=["sidecarCRD"])
    assert of(converted, "npwg.more_networks") is None
    found = note(converted, "defaultNetworks")
    assert found.verdict is Verdict.BY_HAND
    assert "no object can have that name" in found.words
    assert "/etc/cni/multus/net.d" in found.words


def test_one_default_network_of_several_that_is_missing_shows() -> None:
    converted = multus(DATA, clusterNetwork="data", defaultNetworks=["/x/y.conf", "data"])
    assert of(converted, "npwg.more_networks") == ["data"]
    assert note(converted, "defaultNetworks").verdict is Verdict.BY_HAND
    assert "/x/y.conf" in note(converted, "defaultNetworks").words


def test_what_multus_passes_over_is_passed_over_and_said() -> None:
    converted = multus(DATA, clusterNetwork="data", delegates=[FLANNEL])
    assert of(converted, "npwg.default_network") == "data"
    assert "passes them over" in note(converted, "delegates").words
    converted = multus(delegates=[FLANNEL], defaultNetworks=["data"])
    assert of(converted, "npwg.more_networks") is None
    assert "only where clusterNetwork" in note(converted, "defaultNetworks").words


def test_a_daemon_that_makes_its_own_configuration_takes_the_master_or_the_first_file() -> None:
    own = FoundConf(path="/etc/cni/net.d/00-multus.conf", document={"name": "m", "type": "multus"})
    converted = daemon(own, CBR0, multusConfigFile="auto")
    assert of(converted, "npwg.default_network") == "cbr0"
    named = daemon(own, CBR0, DATA, multusMasterCNI="data.conf")
    assert of(named, "npwg.default_network") == "data"
    missing = daemon(own, multusAutoconfigDir="/host/etc/cni/net.d")
    assert of(missing, "npwg.default_network") is None
    assert note(missing, "multusConfigFile").verdict is Verdict.BY_HAND
    assert "/etc/cni/net.d" in note(missing, "multusConfigFile").words


# Every key


def test_the_other_keys_become_settings() -> None:
    converted = multus(
        delegates=[FLANNEL],
        confDir="/etc/confs",
        binDir="/opt/bin",
        cniDir="/var/cache",
        kubeconfig="/etc/kubeconfig",
        readinessindicatorfile="/run/ready",
        namespaceIsolation=True,
        globalNamespaces="default, infra,",
    )
    assert converted.settings["cni"] == {
        "conf_dir": "/etc/confs",
        "bin_dirs": ["/opt/bin"],
        "multus_cache": "/var/cache",
        "readiness_file": "/run/ready",
    }
    assert of(converted, "npwg.namespace_isolation") is True
    assert of(converted, "npwg.global_namespaces") == ["default", "infra"]
    assert of(converted, "intent.source") == "kubernetes"
    assert not converted.has_findings


def test_what_is_not_said_is_as_multus_has_it() -> None:
    converted = multus(delegates=[FLANNEL])
    assert of(converted, "cni.conf_dir") == "/etc/cni/multus/net.d"
    assert of(converted, "cni.bin_dirs") == ["/opt/cni/bin"]
    assert of(converted, "cni.multus_cache") == "/var/lib/cni/multus"
    assert of(converted, "npwg.strict") is False
    assert note(converted, "confDir").key == "confDir (default)"


def test_a_multus_without_kubeconfig_asks_no_api_server_but_a_daemon_does() -> None:
    assert of(multus(delegates=[FLANNEL]), "intent.source") == "folder"
    assert of(daemon(CBR0), "intent.source") == "kubernetes"
    shim = convert_multus({"type": "multus-shim", "clusterNetwork": "x"}, "x.conf")
    assert of(shim, "intent.source") == "kubernetes"


def test_a_folder_to_write_into_becomes_the_one_that_is_read() -> None:
    converted = multus(DATA, clusterNetwork="data", write_dir="/etc/danmpy/net.d")
    assert of(converted, "cni.conf_dir") == "/etc/danmpy/net.d"
    assert [each.name for each in converted.files] == ["data"]
    assert not [step for step in converted.steps if step.startswith("write ")]
    assert "/etc/cni/multus/net.d" in note(converted, "confDir").words


def test_keys_are_read_without_regard_to_case() -> None:
    converted = multus(Delegates=[FLANNEL], readinessIndicatorFile="/run/x", LOGLEVEL="debug")
    assert of(converted, "npwg.default_network") == "cbr0"
    assert of(converted, "cni.readiness_file") == "/run/x"
    assert not converted.has_findings


def test_an_unknown_key_is_named() -> None:
    converted = multus(delegates=[FLANNEL], multiverse=1)
    assert note(converted, "multiverse").verdict is Verdict.UNKNOWN
    assert converted.has_findings


SAMPLES: dict[str, Any] = {
    "auxiliaryCNIChainName": "aux",
    "binDir": "/b",
    "capabilities": {"portMappings": True},
    "clusterNetwork": "net",
    "cniDir": "/c",
    "confDir": "/d",
    "defaultNetworks": ["net"],
    "delegates": [MACVLAN],
    "globalNamespaces": "a",
    "kubeconfig": "/k",
    "metricsPort": 9091,
    "multusMasterCNI": "05.conf",
    "multusNamespace": "m",
    "namespaceIsolation": True,
    "readinessindicatorfile": "/r",
    "systemNamespaces": ["s"],
    "type": "multus",
}


@pytest.mark.parametrize("key", KNOWN.values())
def test_no_key_of_multus_is_dropped_in_silence(key: str) -> None:
    document = {"type": "multus", "delegates": [FLANNEL], key: SAMPLES.get(key, "x")}
    converted = convert_multus(document, "x.conf")
    found = note(converted, key)
    assert found.verdict is not Verdict.UNKNOWN
    assert found.words or found.setting
    assert (found.verdict is Verdict.MAPPED) <= bool(found.setting)
    if key in FIXED:
        assert (found.verdict, found.words) == FIXED[key]


@given(st.sets(st.sampled_from(sorted(KNOWN.values()))), st.sets(st.text(min_size=1, max_size=9)))
def test_every_key_has_exactly_one_note_and_the_settings_always_load(
    keys: set[str], others: set[str]
) -> None:
    document = {"type": "multus"} | {key: SAMPLES.get(key, "x") for key in keys}
    document |= {key: 1 for key in others if key.lower() not in KNOWN and key != "plugins"}
    converted = convert_multus(document, "x.conf")
    noted = [each.key for each in converted.notes]
    assert all(noted.count(key) == 1 for key in document)
    Settings.model_validate(yaml.safe_load(yaml.safe_dump(dict(converted.settings))))


def test_an_empty_value_says_nothing() -> None:
    converted = multus(delegates=[FLANNEL], clusterNetwork="", readinessindicatorfile="")
    assert note(converted, "clusterNetwork").words == "it is empty"
    assert of(converted, "cni.readiness_file") is None


def test_capabilities_beyond_the_runtimes_usual_ones_are_left_to_a_person() -> None:
    declared = {"portMappings": True, "mac": False}
    assert not multus(delegates=[FLANNEL], capabilities=declared).has_findings
    converted = multus(delegates=[FLANNEL], capabilities={**declared, "cgroupPath": True})
    assert note(converted, "capabilities").verdict is Verdict.BY_HAND
    assert "cgroupPath" in note(converted, "capabilities").words


def test_a_port_for_metrics_is_kept_on_loopback() -> None:
    assert of(daemon(CBR0, metricsPort=9091), "metrics.listen") == "127.0.0.1:9091"


# Shapes


def test_multus_in_a_list_is_read_and_its_neighbours_are_named() -> None:
    listed = {
        "cniVersion": "1.0.0",
        "name": "all",
        "plugins": [{"type": "multus", "delegates": [FLANNEL]}, {"type": "sbr"}],
    }
    converted = convert_multus(listed, "x.conflist")
    assert of(converted, "npwg.default_network") == "cbr0"
    assert note(converted, "plugin sbr").verdict is Verdict.BY_HAND


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"type": "bridge"}, "its type is 'bridge'"),
        ({"name": "x"}, "no type and no key of Multus's daemon"),
        ({"plugins": [{"type": "bridge"}]}, "0 of its plugins"),
        ({"plugins": [{"type": "multus"}, {"type": "multus"}]}, "2 of its plugins"),
        ({"plugins": {}}, "'plugins' is no list"),
        ({"plugins": ["x"]}, "'plugins' is no list"),
        ({"type": "multus", "delegates": {}}, "delegates is an object"),
        ({"type": "multus", "delegates": ["x"]}, "delegates is text"),
        ({"type": "multus", "defaultNetworks": "a,b"}, "defaultNetworks is text"),
        ({"type": "multus", "namespaceIsolation": "yes"}, "namespaceIsolation is text"),
        ({"type": "multus", "clusterNetwork": 3}, "clusterNetwork is a number"),
        ({"type": "multus", "metricsPort": True}, "metricsPort is true or false"),
        ({"type": "multus", "metricsPort": "9"}, "metricsPort is text"),
    ],
)
def test_what_is_none_of_multus_s_or_has_a_wrong_type_is_refused(
    document: dict[str, Any], words: str
) -> None:
    assert words in refusal(document)


def test_the_paths_and_folders_to_read_are_told_as_the_host_has_them() -> None:
    document = {
        "type": "multus",
        "clusterNetwork": "/host/run/x.conf",
        "defaultNetworks": ["name", "/run/y"],
    }
    assert references(document, "x") == ("/run/x.conf", "/run/y")
    assert conf_folders(document, "x") == ("/etc/cni/multus/net.d",)
    auto = {"multusConfigFile": "auto", "multusAutoconfigDir": "/host/etc/cni/net.d"}
    assert conf_folders(auto, "x") == ("/etc/cni/multus/net.d", "/etc/cni/net.d")
