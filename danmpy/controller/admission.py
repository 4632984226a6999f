"""The door of admission: a review in, the answer out.

The rules are those by which every other part of danmpy judges the same objects; here is only which
of them are asked. Nothing is written and nothing is reserved, so a dry run is like any other
request: that a review says yes does not mean that the object will be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from danmpy.api.nads import GROUP as NAD_GROUP
from danmpy.api.specs import DANM_KINDS, NetworkKind
from danmpy.controller.admission_configs import judge_config_review
from danmpy.controller.admission_nads import judge_nad_review
from danmpy.controller.admission_networks import judge_network_review
from danmpy.controller.admission_pods import USUAL, PodRules, judge_pod_review
from danmpy.controller.ports import AdmissionPorts
from danmpy.controller.reviews import Operation, Review, Verdict, parse_review, render_answer
from danmpy.errors import ClusterError, StoreError

_log = structlog.get_logger(__name__)

HEALING_NAMESPACE: Final = "kube-system"
"""Pods of this namespace, and of danmpy's own, always pass: they repair the cluster."""

_ASKED_WITHOUT_DATABASE: Final = frozenset({"Pod"})
"""Kinds whose reviews never ask the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSettings:
    """`deny_pods`: refuse pods that cannot work; else they are only warned about. `namespace` is
    danmpy's own. `pods` are the rules by which the nodes attach them."""

    deny_pods: bool = True
    namespace: str = "danmpy"
    pods: PodRules = USUAL


class Admission:
    """Answers reviews. May be called from every thread."""

    def __init__(self, ports: AdmissionPorts, settings: AdmissionSettings) -> None:
        self._ports = ports
        self._settings = settings
        self._judges: Mapping[tuple[str, str], Callable[[Review], Verdict]] = {
            **{("danm.k8s.io", str(kind)): self._judge_network for kind in DANM_KINDS},
            ("danm.k8s.io", "TenantConfig"): self._judge_config,
            (NAD_GROUP, str(NetworkKind.NAD)): self._judge_nad,
            ("", "Pod"): self._judge_pod,
        }

    def answer(self, body: bytes) -> dict[str, Any]:
        """The answer to the AdmissionReview in `body`.

        Raises:
            WireError: it is none.
        """
        return self._answer(parse_review(body))

    def begin(self, body: bytes) -> dict[str, Any] | Callable[[], dict[str, Any]]:
        """As `answer`; or what gives the answer, when that has to ask the database and so may take
        seconds.

        Raises:
            WireError: it is no AdmissionReview.
        """
        review = parse_review(body)
        judged = (review.group, review.kind) in self._judges
        if not judged or review.kind in _ASKED_WITHOUT_DATABASE or _leaves_spec(review):
            return self._answer(review)
        return partial(self._answer, review)

    def _answer(self, review: Review) -> dict[str, Any]:
        verdict = self.judge(review)
        if not verdict.allowed:
            _log.info(
                "refused",
                operation=str(review.operation),
                object=review.subject,
                reasons=[found.code for found in verdict.findings] or str(verdict.unknown),
            )
        return render_answer(review, verdict)

    def judge(self, review: Review) -> Verdict:
        """What is to be said of one change; a kind that is not ours passes."""
        judge = self._judges.get((review.group, review.kind))
        if judge is None:
            return Verdict(warnings=(f"danmpy does not judge a {review.kind}",))
        try:
            return judge(review)
        except (StoreError, ClusterError) as error:
            return Verdict(unknown=error)

    def _judge_network(self, review: Review) -> Verdict:
        return judge_network_review(review, self._ports)

    def _judge_nad(self, review: Review) -> Verdict:
        return judge_nad_review(review, self._ports)

    def _judge_config(self, review: Review) -> Verdict:
        return judge_config_review(review, self._ports)

    def _judge_pod(self, review: Review) -> Verdict:
        if review.namespace in {HEALING_NAMESPACE, self._settings.namespace}:
            return Verdict()
        verdict = judge_pod_review(review, self._ports, self._settings.pods)
        return verdict if self._settings.deny_pods else verdict.as_warnings()


def _leaves_spec(review: Review) -> bool:
    """Is it a change of labels or finalizers? A TenantConfig has no spec, and is not told so."""
    old, new = review.old, review.new
    if review.operation is not Operation.UPDATE or old is None or new is None:
        return False
    return "spec" in new and old.get("spec") == new["spec"]
