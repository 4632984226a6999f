from __future__ import annotations

import pytest
from pydantic import ValidationError

from danmpy.api.tenantconfigs import TenantConfigManifest


def test_the_fields_stand_at_the_top_level() -> None:
    config = TenantConfigManifest.model_validate(
        {
            "apiVersion": "danm.k8s.io/v1",
            "kind": "TenantConfig",
            "metadata": {"name": "tenants"},
            "hostDevices": [{"name": "ens4", "vniType": "vxlan", "vniRange": "700-799"}],
            "networkIds": {"flannel": "flannel"},
        }
    )
    assert config.host_devices[0].vni_range == "700-799"
    assert config.network_ids == {"flannel": "flannel"}


def test_a_spec_is_refused() -> None:
    with pytest.raises(ValidationError):
        TenantConfigManifest.model_validate({"spec": {"hostDevices": []}})


def test_a_range_that_yaml_made_a_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        TenantConfigManifest.model_validate({"hostDevices": [{"name": "a", "vniRange": 700}]})
