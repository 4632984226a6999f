"""What `test_nads` does not see: the parts of a configuration by themselves."""

from __future__ import annotations

import pytest

from danmpy.api.nad_configs import link_plugin, read_config
from support.nads import nad_key


@pytest.mark.parametrize(
    ("conf", "kind"),
    [
        ('{"type": "ipvlan", "master": "ens4"}', "ipvlan"),
        ('{"plugins": [{"type": "tuning"}, {"type": "macvlan", "master": "ens4"}]}', "macvlan"),
        ('{"type": "bridge"}', ""),
        ('{"type": [], "master": "ens4"}', ""),
        ("{", ""),
        ("", ""),
    ],
)
def test_the_plugin_that_stands_on_the_master_is_known(conf: str, kind: str) -> None:
    assert link_plugin(conf) == kind


def test_what_can_be_read_of_a_broken_configuration_is_read() -> None:
    config = read_config(nad_key("net"), '{"type": 7, "master": "ens4", "vxlan": 700}')
    assert str(config.segment) == "vxlan:ens4:700"
    assert [each.code for each in config.findings] == ["PluginTypeInvalid"]
