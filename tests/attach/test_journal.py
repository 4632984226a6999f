"""The journal of attachments."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from danmpy.attach.journal import (
    AttachmentRecord,
    Journal,
    LinkRecord,
    Phase,
    file_name,
    read_records,
)
from danmpy.errors import HostError, NotReadyError
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


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that takes no more than `size` bytes a file (setrlimit(2), RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_leaves_the_older_record_whole_and_no_scraps(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.write(RECORD)
    with files_of_at_most(40), pytest.raises(HostError, match="cannot be written") as caught:
        journal.write(RECORD.with_phase(Phase.ATTACHED))
    assert "make room" in caught.value.hint
    assert journal.read("c1", "eth0") == RECORD
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c1@eth0.json", "lock"]
    again = opened(tmp_path)
    assert again.read_all() == (RECORD,)
    again.close()


def test_file_names_fit_a_directory_entry_and_differ_when_long_ids_differ_at_the_end() -> None:
    ids = ["a" * length for length in (1, 64, 100, 101, 300, 5000)] + ["a" * 300 + "b"]
    names = [file_name(one, "x" * 15) for one in ids]
    assert len(set(names)) == len(ids)
    assert max(map(len, names)) <= 255
    assert names[1] == "a" * 64 + "@" + "x" * 15 + ".json"


def test_a_long_container_id_is_found_again_and_forgotten_like_any_other(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    long = replace(RECORD, container_id="c" * 1000)
    journal.write(long, durable=True)
    journal.close()
    journal = opened(tmp_path)
    assert journal.read_container("c" * 1000) == (long,)
    journal.remove(long)
    journal.remove(long)
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_folder_in_the_place_of_a_record_is_reported_and_disturbs_no_other(
    tmp_path: Path,
) -> None:
    (tmp_path / "z@eth0.json").mkdir()
    journal = opened(tmp_path)
    journal.write(RECORD)
    with pytest.raises(HostError, match="cannot be removed"):
        journal.remove(replace(RECORD, container_id="z"))
    journal.close()
    assert tuple(read_records(tmp_path)) == (RECORD,)


def test_what_a_killed_daemon_was_just_writing_is_cleared_away(tmp_path: Path) -> None:
    scrap = tmp_path / "c1@eth0.json.tmp"
    scrap.write_text('{"container_id": "c')
    journal = Journal(tmp_path)
    journal.open()
    journal.close()
    assert not scrap.exists()


def test_who_listens_hears_when_an_attachment_is_made_and_let_go_of(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    heard: list[int] = []
    journal.listen(lambda: heard.append(len(journal.read_all())))
    journal.write(RECORD.with_phase(Phase.ADDING))
    assert heard == []
    journal.write(RECORD.with_phase(Phase.ATTACHED))
    journal.write(RECORD.with_phase(Phase.DETACHING))
    journal.remove(RECORD)
    assert heard == [1, 1, 0]  # and the change is there by then
    journal.close()


def test_it_knows_whether_it_holds_every_attachment(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.write(RECORD)
    assert journal.complete
    journal.close()
    (tmp_path / "c2@eth0.json").write_text("{")
    for _ in range(2):  # setting the damaged record aside does not make it known
        journal = opened(tmp_path)
        assert not journal.complete
        journal.close()
    (tmp_path / "c2@eth0.damaged").unlink()
    journal = opened(tmp_path)
    assert journal.complete
    journal.close()


def test_a_record_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.write(RECORD)
    journal.close()
    (path,) = tmp_path.glob("*.json")
    document = json.loads(path.read_text())
    for link in document["links"]:
        del link["backend"], link["without"]
    path.write_text(json.dumps(document))
    journal = opened(tmp_path)
    assert (journal.read_all(), journal.complete) == ((RECORD,), True)
    journal.close()
