"""A node on which pods are attached for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.attaching import AttachNode, alone, declare_three, make_node, remove_node
from support.netns import Namespace, Namespaces


@pytest.fixture
def node(tmp_path: Path, namespaces: Namespaces) -> Iterator[AttachNode]:
    """A node without networks."""
    with alone():
        made = make_node(tmp_path, namespaces)
        try:
            made.open()
            yield made
            made.close()
        finally:
            remove_node(made)


@pytest.fixture
def three(node: AttachNode) -> AttachNode:
    """A node with three networks and the pod web on all of them (`declare_three`)."""
    declare_three(node)
    return node


@pytest.fixture
def pod(namespaces: Namespaces) -> Namespace:
    """The namespace of a sandbox."""
    return namespaces.make("pod")
