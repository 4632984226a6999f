"""A node on which pods are attached for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.attaching import AttachNode, make_node, remove_node
from support.netns import Namespaces


@pytest.fixture
def node(tmp_path: Path, namespaces: Namespaces) -> Iterator[AttachNode]:
    made = make_node(tmp_path, namespaces)
    try:
        made.open()
        yield made
        made.close()
    finally:
        remove_node(made)
