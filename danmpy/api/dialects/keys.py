"""The annotations by which pods ask for interfaces."""

from __future__ import annotations

from typing import Final

INTERFACES: Final = "danm.k8s.io/interfaces"
INTERFACES_NEW: Final = "danm.io/interfaces"

NPWG_NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
MULTUS_DEFAULT: Final = "v1.multus-cni.io/default-network"

GENIE_CNI: Final = "cni"
BARE_NETWORKS: Final = "networks"
"""CNI-Genie's list of logical networks, or Knitter's object with ports: told apart by shape."""

GENIE_PREFERENCES: Final = "multi-ip-preferences"

CLAIM: Final = "danm.k8s.io/claim"
"""Ours: the name in the namespace for which the pod's addresses are kept when it goes."""

ASKING: Final = (
    INTERFACES,
    INTERFACES_NEW,
    NPWG_NETWORKS,
    MULTUS_DEFAULT,
    GENIE_CNI,
    BARE_NETWORKS,
)
"""Those that ask for interfaces."""

NO_TEXT: Final = "\0"
"""Stands for an annotation whose value in a manifest is no text; no dialect reads it."""

ANNOTATIONS: Final = (*ASKING, GENIE_PREFERENCES, CLAIM)
"""The annotations that `PodSpec.annotations` keeps."""
