"""Second looks: what the cache does not know is asked of the API server before it is refused."""

from __future__ import annotations

from collections.abc import Sequence

from danmpy.api.specs import NetworkKey, TenantConfigSpec
from danmpy.controller.ports import Lookups
from danmpy.errors import ClusterError
from danmpy.intent.documents import Document
from danmpy.intent.objects import created_at
from danmpy.intent.parse import Judged, judge_document, parse_documents


def newest_configs(
    lookups: Lookups, known: Sequence[TenantConfigSpec]
) -> Sequence[TenantConfigSpec]:
    """The TenantConfigs as they are; `known` when the API server cannot be asked."""
    try:
        bodies = lookups.tenant_configs()
    except ClusterError:
        return known
    # As the cache has them: of two that clash the older one counts.
    ordered = sorted(bodies, key=lambda body: (created_at(body), body["metadata"]["name"]))
    documents = [Document(where="TenantConfig", body=body) for body in ordered]
    return parse_documents(documents, stored=True).tenant_configs


def newest_network(lookups: Lookups, key: NetworkKey) -> Judged | None:
    """What the rules say of the network as it is; None when there is none.

    Raises:
        ClusterError: the API server cannot be asked.
    """
    body = lookups.network(key)
    if body is None:
        return None
    return judge_document(Document(where=str(key), body=body), stored=True)
