"""What the manifests say: they fit each other, the settings, the release and the code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import danmpy
from danmpy import settings
from danmpy.controller.certificate_sources import secret_name
from danmpy.controller.registration import LEFT_OUT_LABEL, Registration, registration_file
from support.deploying import (
    DATABASE_URLS,
    DEPLOY,
    NAMESPACE,
    OVERLAYS,
    Container,
    container,
    containers,
    find,
    overlay,
    rights,
    write_config,
)
from support.kustomize import build, pod_spec, read_kustomization
from support.processes import REPOSITORY, danmpy_argv

KUSTOMIZATIONS = [f"overlays/{name}" for name in OVERLAYS] + ["uninstall"]
VERSION = danmpy.__version__


def load(name: str, box: Container, folder: Path) -> settings.Settings:
    return settings.load(box.environment(), write_config(overlay(name), folder))


def every_container() -> list[Any]:
    return [
        pytest.param(box, id=f"{name}-{box.workload}-{box.name}")
        for name in KUSTOMIZATIONS
        for box in containers(build(DEPLOY / name))
    ]


# The release


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_images_are_this_release_and_name_no_registry(name: str) -> None:
    images = {box.spec["image"] for box in containers(build(DEPLOY / name))}
    assert images == {f"danmpy:{VERSION}"}


def test_the_migration_job_has_the_release_in_its_name() -> None:
    jobs = [each["metadata"]["name"] for each in overlay("cluster") if each["kind"] == "Job"]
    assert jobs == [f"danmpy-migrate-{VERSION.replace('.', '-')}"]


def test_the_base_brings_every_crd_of_the_repository() -> None:
    """That the files are those of the models is tested in tests/api/test_crds.py."""
    crds = REPOSITORY / "crds"
    files = sorted(crds.glob("*.yaml"))
    assert build(crds) == [yaml.safe_load(path.read_text()) for path in files]
    assert "../../crds" in read_kustomization(DEPLOY / "base")["resources"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_file_is_used(name: str) -> None:
    for folder in (DEPLOY / "base", DEPLOY / "overlays" / name):
        wanted = read_kustomization(folder)
        used = {*wanted["resources"], *(each.get("path") for each in wanted.get("patches", ()))}
        there = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
        assert there <= used


# Commands and settings


@pytest.mark.parametrize("box", every_container())
def test_containers_run_commands_that_exist(box: Container) -> None:
    if "command" in box.spec:
        assert box.spec["command"] == ["sleep", "infinity"]
        return
    argv = danmpy_argv(*box.spec["args"], "--help")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_loads_its_settings(name: str, tmp_path: Path) -> None:
    for box in containers(overlay(name)):
        loaded = load(name, box, tmp_path)
        assert loaded.intent.source == "kubernetes"
        assert "/etc/danmpy" in box.mounts
    assert Path("/etc/danmpy/config.yaml") == settings.DEFAULT_PATH


SECRETS = {
    "node": "danmpy-database-node",
    "controller": "danmpy-database-controller",
    "migrate": "danmpy-database-migration",
}


def test_in_a_cluster_each_process_has_the_database_login_of_its_own_secret(
    tmp_path: Path,
) -> None:
    for name, secret in SECRETS.items():
        box = container(overlay("cluster"), name)
        assert load("cluster", box, tmp_path).database_url == DATABASE_URLS[secret]
        assert secrets_of(box) == {secret}


def test_one_login_for_all_is_a_component(tmp_path: Path) -> None:
    manifests = overlay("cluster", "one-database-login")
    for name in SECRETS:
        box = container(manifests, name)
        assert load("cluster", box, tmp_path).database_url == DATABASE_URLS["danmpy-database"]
        assert secrets_of(box) == {"danmpy-database"}


def secrets_of(box: Container) -> set[str]:
    """The Secrets that a container reads, as variables and as files."""
    sources = [
        source["secret"]["name"]
        for volume in box.pod["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
        if "secret" in source
    ]
    variables = [each.get("valueFrom", {}) for each in box.spec.get("env", ())]
    named = [each["secretKeyRef"]["name"] for each in variables if "secretKeyRef" in each]
    return {*sources, *named}


def test_on_one_node_both_daemons_open_the_same_sqlite_file(tmp_path: Path) -> None:
    files = set()
    for name in ("node", "controller"):
        box = container(overlay("single-node"), name)
        url = load("single-node", box, tmp_path).database_url
        path = Path(url.removeprefix("sqlite:///"))
        (mount,) = (each for each in box.host_paths if path.is_relative_to(each))
        files.add(Path(box.host_paths[mount], path.relative_to(mount)))
    assert files == {Path("/var/lib/danmpy/database/danmpy.db")}


def test_no_secret_is_checked_in() -> None:
    for name in OVERLAYS:
        assert not [each for each in overlay(name) if each["kind"] == "Secret"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_node_daemon_finds_its_folders_where_host_and_plugin_look(
    name: str, tmp_path: Path
) -> None:
    box = container(overlay(name), "node")
    loaded = load(name, box, tmp_path)
    for folder in (
        loaded.socket.parent,
        loaded.state_dir,
        loaded.cni.conf_dir,
        *loaded.cni.bin_dirs,
    ):
        assert box.host_paths[str(folder)] == str(folder)
    assert loaded.node_name == "node-a"
    assert box.mounts["/run/netns"]["mountPropagation"] == "HostToContainer"
    installer = container(overlay(name), "install-cni")
    for folder in (loaded.cni.conf_dir, loaded.cni.bin_dirs[0]):
        assert installer.host_paths[str(folder)] == str(folder)
        assert "readOnly" not in installer.mounts[str(folder)]


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("role", ["node", "controller"])
def test_probes_ask_where_the_process_answers(name: str, role: str, tmp_path: Path) -> None:
    box = container(overlay(name), role)
    host, port = load(name, box, tmp_path).metrics.endpoint or ("", 0)
    ports = {each["name"]: each["containerPort"] for each in box.spec.get("ports", ())}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = box.spec[probe]["httpGet"]
        assert ports.get(asked["port"], asked["port"]) == port
        # Without a host the kubelet asks the address of the pod.
        assert asked.get("host", "0.0.0.0") == host


@pytest.mark.parametrize("name", OVERLAYS)
def test_service_lease_and_registration_are_those_of_the_settings(
    name: str, tmp_path: Path
) -> None:
    manifests = overlay(name)
    box = container(manifests, "controller")
    loaded = load(name, box, tmp_path)
    service = find(manifests, "Service", loaded.webhook.service)
    (port,) = service["spec"]["ports"]
    ports = {each["name"]: each["containerPort"] for each in box.spec["ports"]}
    assert (port["port"], ports[port["targetPort"]]) == (443, loaded.webhook.endpoint[1])
    assert loaded.controller.namespace == service["metadata"]["namespace"] == NAMESPACE
    find(manifests, "ValidatingWebhookConfiguration", loaded.webhook.registration)
    named = {
        (resource, each)
        for rule in rights(manifests, "danmpy-controller")
        for resource in rule["resources"]
        for each in rule.get("resourceNames", ())
    }
    assert ("leases", loaded.controller.lease) in named
    assert ("validatingwebhookconfigurations", loaded.webhook.registration) in named


def test_the_registration_is_the_one_that_the_controller_renders() -> None:
    path = DEPLOY / "base" / "webhook.yaml"
    assert path.read_text() == registration_file(), "write registration_file() there anew"


def test_the_controller_may_keep_the_secret_that_it_makes() -> None:
    named = [
        rule.get("resourceNames")
        for rule in rights(overlay("cluster"), "danmpy-controller")
        if rule["resources"] == ["secrets"] and "get" in rule["verbs"]
    ]
    assert named == [[secret_name(Registration())]]


def test_the_webhook_leaves_its_own_namespace_alone() -> None:
    labels = find(overlay("cluster"), "Namespace", NAMESPACE)["metadata"]["labels"]
    assert labels[LEFT_OUT_LABEL] == "ignore"


# Who is meant


@pytest.mark.parametrize("name", OVERLAYS)
def test_selectors_mean_their_own_pods_alone(name: str) -> None:
    manifests = overlay(name)
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in manifests
        if pod_spec(each)
    }
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if not selector or manifest["kind"] == "CustomResourceDefinition":
            continue
        wanted = selector.get("matchLabels", selector)
        component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        meant = [workload for workload, have in labels.items() if wanted.items() <= have.items()]
        assert len(meant) == 1
        assert meant[0].startswith(f"danmpy-{component}")


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_process_has_an_account_of_its_own(name: str) -> None:
    accounts = {
        each["metadata"]["name"]: spec["serviceAccountName"]
        for each in overlay(name)
        if (spec := pod_spec(each))
    }
    assert len(set(accounts.values())) == len(accounts)
    for account in accounts.values():
        find(overlay(name), "ServiceAccount", account)


@pytest.mark.parametrize("account", ["danmpy-node", "danmpy-controller", "danmpy-migrate"])
def test_no_right_is_a_wildcard(account: str) -> None:
    for rule in rights(overlay("cluster"), account):
        assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}


# Pod security


def breaches_of_restricted(box: Container) -> list[str]:
    """What the level "restricted" of the Pod Security Standards forbids and this pod has."""
    own, pod = box.spec["securityContext"], box.pod.get("securityContext", {})
    both = {**pod, **own}
    allowed = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    volumes = {key for each in box.pod.get("volumes", ()) for key in each if key != "name"}
    found = {
        "host namespaces": any(box.pod.get(f"host{each}") for each in ("Network", "PID", "IPC")),
        "privileged": own.get("privileged", False),
        "privilege escalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities": "ALL" not in own["capabilities"]["drop"]
        or set(own["capabilities"].get("add", ())) - {"NET_BIND_SERVICE"},
        "root": both.get("runAsNonRoot") is not True or both.get("runAsUser", 1) == 0,
        "seccomp": both.get("seccompProfile", {}).get("type") != "RuntimeDefault",
        "selinux": "seLinuxOptions" in both,
        "volumes": volumes - allowed,
        "host ports": any("hostPort" in each for each in box.spec.get("ports", ())),
    }
    return [what for what, breach in found.items() if breach]


@pytest.mark.parametrize("name", ["controller", "migrate"])
def test_in_a_cluster_controller_and_migration_keep_to_the_restricted_level(name: str) -> None:
    assert breaches_of_restricted(container(overlay("cluster"), name)) == []


def test_on_one_node_the_controller_is_root_of_one_folder_and_of_nothing_else() -> None:
    box = container(overlay("single-node"), "controller")
    assert set(breaches_of_restricted(box)) == {"root", "selinux", "volumes"}
    assert list(box.host_paths.values()) == ["/var/lib/danmpy/database"]


@pytest.mark.parametrize("box", every_container())
def test_no_container_can_get_more_than_it_was_given(box: Container) -> None:
    own = box.spec["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"]["drop"] == ["ALL"]
    assert box.name == "node" or "add" not in own["capabilities"]
    assert box.pod["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}
    assert box.pod["enableServiceLinks"] is False
    assert {"requests", "limits"} <= set(box.spec["resources"])


def test_the_migration_has_no_token() -> None:
    manifests = overlay("cluster")
    account = find(manifests, "ServiceAccount", "danmpy-migrate")
    assert account["automountServiceAccountToken"] is False
    assert container(manifests, "migrate").pod["automountServiceAccountToken"] is False
    assert not list(rights(manifests, "danmpy-migrate"))


def test_the_node_daemon_runs_on_every_node_and_first() -> None:
    pod = container(overlay("cluster"), "node").pod
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["hostNetwork"] is True


# Files


def test_no_key_stands_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[object, object]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{node.start_mark}: {keys}"
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for path in sorted(DEPLOY.rglob("*.yaml")):
        list(yaml.load_all(path.read_text(), Strict))
