"""The framing between shim and daemon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danmpy.attach.wire import (
    MAGIC,
    MAX_BLOCK,
    WireAnswer,
    WireRequest,
    decode_request,
    encode_answer,
    encode_request,
    forwarded,
    read_answer,
    read_request,
    request_size,
)
from danmpy.errors import WireError

_VALUES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))
_NAMES = st.from_regex(r"CNI_[A-Z]{1,8}", fullmatch=True)


class Trickle:
    """A stream that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, size: int) -> bytes:
        head, self.data = self.data[:1], self.data[1:]
        return head


@given(st.dictionaries(_NAMES, _VALUES), st.binary())
def test_a_request_comes_back_as_it_was(environ: dict[str, str], stdin: bytes) -> None:
    request = WireRequest(environ=environ, stdin=stdin)
    assert decode_request(encode_request(request)) == request


@given(st.integers(min_value=0, max_value=255), st.binary())
def test_an_answer_comes_back_as_it_was(status: int, stdout: bytes) -> None:
    answer = WireAnswer(status=status, stdout=stdout)
    assert read_answer(Trickle(encode_answer(answer))) == answer


def test_only_variables_that_matter_travel() -> None:
    environ = {"CNI_PATH": "/x", "PATH": "/bin", "TRACEPARENT": "t", "HOME": "/", "XCNI_A": "1"}
    assert forwarded(environ) == {"CNI_PATH": "/x", "PATH": "/bin", "TRACEPARENT": "t"}
    assert "HOME" not in decode_request(encode_request(WireRequest(environ=environ))).environ


def test_bytes_that_are_no_utf8_survive() -> None:
    odd = b"\xff\xfe".decode("utf-8", "surrogateescape")
    request = WireRequest(environ={"CNI_ARGS": odd})
    assert decode_request(encode_request(request)).environ == {"CNI_ARGS": odd}


def test_a_stream_may_come_byte_by_byte_and_nothing_more_is_read() -> None:
    request = WireRequest(environ={"CNI_COMMAND": "ADD"}, stdin=b"{}")
    stream = Trickle(encode_request(request) + b"next")
    assert read_request(stream) == request
    assert stream.data == b"next"
    assert read_answer(Trickle(encode_answer(WireAnswer(status=1, stdout=b"x")))).status == 1


def test_every_truncation_is_refused() -> None:
    whole = encode_request(WireRequest(environ={"CNI_COMMAND": "ADD"}, stdin=b"{}"))
    for size in range(len(whole)):
        with pytest.raises(WireError) as caught:
            decode_request(whole[:size])
        assert caught.value.code == 5


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HT" + b"\0" * 12,
        MAGIC + (MAX_BLOCK + 1).to_bytes(4, "big"),
        MAGIC + b"\0\0\0\x01x" + b"\0" * 8,
        encode_request(WireRequest()) + b"x",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_request(data)


@given(st.dictionaries(_NAMES, _VALUES), st.binary(max_size=50), st.binary(max_size=5))
def test_the_size_of_a_request_is_known_before_its_last_block_and_never_wrong(
    environ: dict[str, str], stdin: bytes, more: bytes
) -> None:
    data = encode_request(WireRequest(environ=environ, stdin=stdin))
    sizes = [request_size(data[:end]) for end in range(len(data) + 1)]
    assert set(sizes) <= {None, len(data)}
    assert sizes[-1] == request_size(data + more) == len(data)


def test_a_stream_that_can_be_no_request_is_refused_at_its_first_wrong_byte() -> None:
    with pytest.raises(WireError):
        request_size(b"G")
    with pytest.raises(WireError, match="bigger"):
        request_size(MAGIC + (MAX_BLOCK + 1).to_bytes(4, "big"))
