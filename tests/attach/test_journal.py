"""The journal of attachments."""

from pathlib import Path

import pytest

from danmpy.attach.journal import AttachmentRecord, Journal, LinkRecord, Phase, read_records
from danmpy.errors import NotReadyError
from danmpy.kernel.podlinks import PodLink, PodLinkConfig, PodRoute, PodRule

RECORD = AttachmentRecord(
    container_id="c1",
    ifname="eth0",
    phase=Phase.ADDING,
    netns="/run/netns/x",
    netns_device=4,
    netns_inode=77,
    namespace="blue",
    pod="web-0",
    links=(
        LinkRecord(
            name="eth0",
            network="TenantNetwork/blue/internal",
            link=PodLink(name="eth0", kind="macvlan", parent="vx7", mac="02:00:00:00:00:01"),
            config=PodLinkConfig(
                alias="danmpy pod=c1",
                ipv6=True,
                addresses=("10.0.0.7/24",),
                routes=(PodRoute(destination="0.0.0.0/0", gateway="10.0.0.1"),),
                rules=(PodRule(source="10.0.0.7", table=9),),
            ),
        ),
    ),
    result={"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.7/24"}]},
)


def opened(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.open()
    return journal


def test_a_record_survives_the_process_with_every_field(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write(RECORD)
    first.close()
    again = opened(tmp_path)
    assert again.read("c1", "eth0") == RECORD
    assert again.read_all() == (RECORD,)
    again.close()


def test_a_removed_record_is_gone_and_removing_it_twice_is_no_error(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.write(RECORD, durable=True)
    journal.remove(RECORD)
    journal.remove(RECORD)
    assert journal.read("c1", "eth0") is None
    assert list(read_records(tmp_path)) == []
    journal.close()


def test_a_second_daemon_on_the_same_state_folder_is_refused(tmp_path: Path) -> None:
    first = opened(tmp_path)
    with pytest.raises(NotReadyError, match="another danmpy node daemon"):
        Journal(tmp_path).open()
    first.close()
    opened(tmp_path).close()


def test_a_damaged_record_is_put_aside_and_the_others_are_read(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.write(RECORD)
    journal.close()
    (tmp_path / "c2@eth0.json").write_text('{"container_id": "c2"')
    again = opened(tmp_path)
    assert again.read_all() == (RECORD,)
    assert (tmp_path / "c2@eth0.damaged").exists()
    again.close()


def test_a_reader_beside_the_daemon_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "c2@eth0.json").write_text("{")
    assert list(read_records(tmp_path)) == []
    assert (tmp_path / "c2@eth0.json").exists()
