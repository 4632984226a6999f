"""GC and STATUS, the verbs of 1.1.0."""

from __future__ import annotations

from conformance.driver import Driver
from conformance.verdicts import INTERFACE, STANDALONE, check, expect

NEEDED = "1.1.0"
NO_ATTACHMENT = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"), "")


@check("STATUS succeeds and prints nothing", "2 STATUS")
def status_silent(driver: Driver) -> None:
    driver.need_version(NEEDED)
    for environ in ({}, NO_ATTACHMENT):
        driver.call("STATUS", stdin=driver.config(), environ=environ).expect_silent("STATUS")


@check("STATUS changes nothing", "2 STATUS", STANDALONE)
def status_reads(driver: Driver) -> None:
    driver.need_version(NEEDED)
    sandbox = driver.attach()
    host, links = driver.host_links(), sandbox.links()
    driver.call("STATUS", stdin=driver.config()).expect_silent("STATUS")
    expect(driver.host_links() == host, "STATUS changed the host")
    expect(set(sandbox.links()) == set(links), "STATUS changed the container")
    driver.check(sandbox).expect_silent("CHECK after STATUS")


@check("GC prints nothing and keeps the attachments that are valid", "2 GC", STANDALONE)
def gc_keeps(driver: Driver) -> None:
    driver.need_version(NEEDED)
    first, second = driver.attach(), driver.attach()
    driver.collect(first, second).expect_silent("GC")
    for each in (first, second):
        driver.check(each).expect_silent("CHECK after GC")


@check("GC frees what is not valid, and only that", "2 GC", STANDALONE)
def gc_frees(driver: Driver) -> None:
    driver.need_version(NEEDED)
    kept = driver.attach()
    for _ in range(driver.need_pool()):
        stale = driver.attach()
        driver.vanish(stale)
        driver.collect(kept).expect_silent("GC")
    driver.check(kept).expect_silent("CHECK after GC")


@check("GC with no valid attachment at all frees everything", "2 GC", STANDALONE)
def gc_frees_all(driver: Driver) -> None:
    driver.need_version(NEEDED)
    for _ in range(driver.need_pool()):
        driver.vanish(driver.attach())
        driver.collect().expect_silent("GC")


@check("GC goes by interface, not by container", "2 GC", STANDALONE)
def gc_by_interface(driver: Driver) -> None:
    driver.need_version(NEEDED)
    sandbox = driver.attach()
    listed = [{"containerID": sandbox.container_id, "ifname": f"{sandbox.ifname}x"}]
    config = {**driver.config(), "cni.dev/valid-attachments": listed}
    driver.call("GC", stdin=config).expect_silent("GC")
    driver.check(sandbox).expect_error("CHECK of what GC took away")


@check("GC takes the interface of a stale attachment away", "2 GC", INTERFACE)
def gc_takes_link(driver: Driver) -> None:
    driver.need_version(NEEDED)
    sandbox = driver.attach()
    driver.collect().expect_silent("GC")
    driver.check(sandbox).expect_error("CHECK of what GC took away")
    driver.delete(sandbox).expect_silent("DEL of what GC took away")


@check("GC without a list succeeds and takes nothing away", "practice", STANDALONE)
def gc_without_list(driver: Driver) -> None:
    driver.need_version(NEEDED)
    sandbox = driver.attach()
    driver.call("GC", stdin=driver.config(), environ=NO_ATTACHMENT).expect_silent("GC")
    driver.check(sandbox).expect_silent("CHECK after GC")


@check("GC twice succeeds", "2 GC")
def gc_twice(driver: Driver) -> None:
    driver.need_version(NEEDED)
    for _ in range(2):
        driver.collect().expect_silent("GC")
