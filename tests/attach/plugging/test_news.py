"""News about pods."""

from __future__ import annotations

from danmpy.attach.journal import AttachmentRecord, Phase
from danmpy.attach.plugging.news import NewsKind, PodNews


def test_news_name_the_pod_as_the_runtime_does() -> None:
    record = AttachmentRecord(
        container_id="c1",
        ifname="eth0",
        phase=Phase.ATTACHED,
        netns="/n",
        namespace="blue",
        pod="web-0",
        pod_uid="u-1",
    )
    news = PodNews.of(record, NewsKind.BROKEN, "eth1 is gone")
    assert (news.namespace, news.pod, news.pod_uid) == ("blue", "web-0", "u-1")
    assert (news.kind, news.message) == (NewsKind.BROKEN, "eth1 is gone")
