"""What the verbs ask for is what the real parts offer."""

import inspect

import pytest

from danmpy.attach.ports import Leases, NodeView
from danmpy.attach.view import LiveView
from danmpy.ipam.leases import LeaseStore


@pytest.mark.parametrize(("port", "real"), [(Leases, LeaseStore), (NodeView, LiveView)])
def test_the_real_part_has_every_method_with_the_same_parameters(port: type, real: type) -> None:
    asked = [name for name in vars(port) if not name.startswith("_")]
    assert asked
    for name in asked:
        wanted = inspect.signature(getattr(port, name)).parameters
        offered = inspect.signature(getattr(real, name)).parameters
        assert list(offered) == list(wanted), name
        assert [p.kind for p in offered.values()] == [p.kind for p in wanted.values()], name
