"""``danmpy audit usage --from|--to|--forecast``: use over time, and when pools are full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from danmpy.cli.args import choose_network
from danmpy.cli.edge import DONE
from danmpy.cli.output import Column, Format, Item, Listing, emit, say_out, short_number, shown
from danmpy.clock import to_rfc3339

if TYPE_CHECKING:
    from danmpy.ipam.values import NetworkUsage
    from danmpy.settings import Settings

FIELDS: Final = (
    *("network", "family", "at", "step", "capacity", "held", "cooling", "free", "peak"),
)


def print_series(
    settings: Settings, network: str | None, window: Mapping[str, int | None], output: Format
) -> int:
    """Every sample of the window; under the table the peak of each pool."""
    from danmpy.bootstrap.readers import open_audit, open_samples

    audit = open_audit(settings)
    known = audit.network_names()
    names = sorted(known) if network is None else [choose_network(network, known)]
    samples = open_samples(settings).series(names, window["since"], window["until"])
    peaks: dict[tuple[str, int], Item] = {}

    def items() -> Iterable[Item]:
        for sample in samples:
            item = sample.to_json()
            place = (sample.network, sample.family)
            if place not in peaks or sample.peak > peaks[place]["peak"]:
                peaks[place] = item
            yield item

    listing = Listing(
        items=items(),
        columns=[
            Column(title="NETWORK", text=lambda item: item["network"]),
            Column(title="FAMILY", text=lambda item: f"IPv{item['family']}"),
            Column(title="AT", text=lambda item: item["at"]),
            *(_number(name) for name in ("capacity", "held", "cooling", "free", "peak")),
        ],
        fields=FIELDS,
        database_time=to_rfc3339(audit.database_time()),
        empty="no sample was taken in that time",
    )
    emit(listing, output)
    if output is Format.TABLE and peaks:
        say_out()
        for (name, family), item in sorted(peaks.items()):
            say_out(shown(f"{name} IPv{family}: peak {item['peak']} held, {item['at']}"))
    return DONE


def _number(name: str) -> Column:
    return Column(title=name.upper(), text=lambda item: short_number(item[name]), right=True)


def with_forecasts(
    settings: Settings, items: Iterable[dict[str, Any]], usages: Iterable[NetworkUsage]
) -> list[dict[str, Any]]:
    """The items of networks, with ``exhausted_at`` for each family: RFC 3339, or None."""
    from danmpy.bootstrap.readers import open_samples

    told = open_samples(settings).forecasts(tuple(usages))
    made = []
    for item in items:
        more = {}
        for family, name in ((4, "v4"), (6, "v6")):
            if item[name] is not None:
                moment = told.get((item["network"], family))
                at = None if moment is None else to_rfc3339(moment)
                more[name] = {**item[name], "exhausted_at": at}
        made.append({**item, **more})
    return made
