"""Second looks: what the cache does not know is asked of the API server before it is refused."""

from __future__ import annotations

from collections.abc import Sequence

from danmpy.api.specs import NetworkKey, TenantConfigSpec
from danmpy.controller.ports import Lookups
from danmpy.errors import ClusterError
from danmpy.intent.documents import Document
from danmpy.intent.parse import Judged, judge_document, parse_documents


def newest_configs(
    lookups: Lookups, known: Sequence[TenantConfigSpec]
) -> Sequence[TenantConfigSpec]:
    """The TenantConfigs as they are; `known` when the API server cannot be asked."""
    try:
        bodies = lookups.tenant_configs()
    except ClusterError:
        return known
    documents = [Document(where="TenantConfig", body=body) for body in bodies]
    return parse_documents(documents).tenant_configs


def newest_network(lookups: Lookups, key: NetworkKey) -> Judged | None:
    """What the rules say of the network as it is; None when there is none.

    Raises:
        ClusterError: the API server cannot be asked.
    """
    body = lookups.network(key)
    return None if body is None else judge_document(Document(where=str(key), body=body))
