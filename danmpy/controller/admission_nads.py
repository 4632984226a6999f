"""Admission of NetworkAttachmentDefinitions. Pure, but for what it asks its ports.

Most of them are other plugins', and other readers know more about them than we do. Refused is what
nobody could use, and what is wrong with the part that is ours; all else is only told.
"""

from __future__ import annotations

from danmpy.api.nad_configs import CONFIG
from danmpy.api.nads import TOLD_ONLY, judge_nad
from danmpy.api.specs import NetworkKey, NetworkKind
from danmpy.controller.admission_networks import judge_segment
from danmpy.controller.ports import AdmissionPorts
from danmpy.controller.reviews import Operation, Review, Verdict, told_finding


def judge_nad_review(review: Review, ports: AdmissionPorts) -> Verdict:
    """What is to be said of this change of a NetworkAttachmentDefinition.

    Raises:
        StoreError: it names a segment, and the database cannot be asked whose that is.
    """
    if review.operation not in {Operation.CREATE, Operation.UPDATE} or review.new is None:
        return Verdict()
    key = NetworkKey(kind=NetworkKind.NAD, namespace=review.namespace, name=review.name)
    judged = judge_nad(key, "", review.new)
    # What was wrong before must not keep anybody from changing labels or finalizers.
    same = review.old is not None and review.old.get("spec") == review.new.get("spec")
    told = [found for found in judged.findings if found.code in TOLD_ONLY or same]
    refused = tuple(found for found in judged.findings if found not in told)
    verdict = Verdict(invalid=refused, warnings=tuple(map(told_finding, told)))
    segment = judged.network.segment if judged.network is not None else None
    before = judge_nad(key, "", review.old).network if review.old is not None else None
    if judged.network is None or segment is None or (before and before.segment == segment):
        return verdict
    return judge_segment(judged.network, ports, field=f"{CONFIG}.{segment.kind}")
