"""The groups of the settings tree: what their values may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from danmpy import settings_groups
from danmpy.settings import Settings
from danmpy.settings_groups import DevicesSettings, Group, parse_listen


def groups() -> list[type[BaseModel]]:
    found = vars(settings_groups).values()
    return [each for each in found if isinstance(each, type) and issubclass(each, Group)]


def test_every_group_is_part_of_the_tree() -> None:
    used = {field.annotation for field in Settings.model_fields.values()}
    assert [each.__name__ for each in groups() if each not in used and each is not Group] == []


def test_devices_are_asked_for_where_every_kubelet_answers() -> None:
    devices = DevicesSettings()
    assert str(devices.pod_resources_socket) == "/var/lib/kubelet/pod-resources/kubelet.sock"
    assert devices.info_dir == Path("/var/run/k8s.cni.cncf.io/devinfo")


@pytest.mark.parametrize("path", ["kubelet.sock", "/" + "x" * 107])
def test_a_socket_that_cannot_be_one_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match=r"absolute|107 bytes"):
        DevicesSettings(pod_resources_socket=Path(path))


@pytest.mark.parametrize("text", ["9464", ":1", "a:0", "a:65536", "a:x"])
def test_an_address_without_a_host_or_a_port_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 65535"):
        parse_listen(text)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert parse_listen("[fd00::1]:80") == ("fd00::1", 80)
