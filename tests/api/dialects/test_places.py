from __future__ import annotations

import pytest

from danmpy.api.dialects.places import Place, link_name, network_name, quoted, read_json, text_of
from danmpy.api.specs import PodSpec
from danmpy.errors import IntentError

POD = PodSpec(namespace="blue", name="web-0")
PLACE = Place.of(POD, "networks")


def test_a_place_is_written_as_people_would_look_for_it() -> None:
    assert str(PLACE) == "networks"
    assert str(PLACE.item(2).at("portMappings").nth(1).at("hostPort")) == (
        "networks[2].portMappings[1].hostPort"
    )


def test_a_refusal_names_pod_place_and_way_out() -> None:
    error = PLACE.item(0).at("mac").refuse("it is wrong", "write another")
    assert str(error) == "Pod/blue/web-0: networks[0].mac: it is wrong (write another)"


@pytest.mark.parametrize("name", ["lo", "a/b", "a b", "x" * 16, "ä", ".", 5, True, []])
def test_what_no_interface_can_be_called_is_refused(name: object) -> None:
    with pytest.raises(IntentError, match=r"networks\[0\]\.interface"):
        link_name(PLACE.item(0).at("interface"), name)


def test_no_name_is_none() -> None:
    assert link_name(PLACE, None) is link_name(PLACE, "") is None
    assert link_name(PLACE, "data0") == "data0"


def test_long_and_odd_text_is_quoted_short_and_on_one_line() -> None:
    assert len(quoted("x" * 10_000)) < 100
    assert quoted("a\nb") == "'a\\nb'"


def test_names_of_networks_and_texts_are_checked() -> None:
    assert network_name(PLACE, "net.a-1") == "net.a-1"
    with pytest.raises(IntentError, match="no name that a network can have"):
        network_name(PLACE, "Net")
    with pytest.raises(IntentError, match="a number and not text"):
        text_of(PLACE, 5)


def test_bad_json_shows_a_good_one() -> None:
    with pytest.raises(IntentError) as caught:
        read_json(PLACE, "{", "write {}")
    assert caught.value.hint == "write {}"
