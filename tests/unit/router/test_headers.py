from multidict import CIMultiDict

from gpuserve.plan import Capabilities
from gpuserve.router.headers import (
    printable,
    request_id,
    routed,
    towards_client,
    towards_upstream,
)
from gpuserve.routing.choose import Choice
from gpuserve.routing.table import Upstream


def test_hop_by_hop_headers_stay_and_so_does_what_connection_names() -> None:
    given = CIMultiDict(
        [("Connection", "close, X-Mine"), ("x-mine", "1"), ("TE", "x"), ("Accept", "a")]
    )
    assert list(towards_upstream(given).items()) == [("Accept", "a")]


def test_repeated_headers_pass_in_order() -> None:
    given = CIMultiDict([("Set-Cookie", "a"), ("X", "1"), ("Set-Cookie", "b")])
    assert towards_client(given).getall("set-cookie") == ["a", "b"]


def test_our_own_names_cannot_be_forged_by_either_side() -> None:
    given = CIMultiDict([("X-Gpuserve-Model", "evil"), ("x-request-id", "theirs")])
    assert not towards_client(given)
    assert not towards_upstream(given)


def test_the_framing_of_the_request_is_made_anew() -> None:
    names = ("Host", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Expect")
    assert not towards_upstream(CIMultiDict([(name, "1") for name in names]))


def test_a_header_value_is_short_printable_ascii() -> None:
    assert printable("a\r\nX: 1\x00é\ud800名") == "a?X: 1?"
    assert len(printable("x" * 5000)) <= 300


def test_a_printable_request_id_is_kept_and_any_other_replaced() -> None:
    assert request_id({"x-request-id": "abc-1"}) == "abc-1"
    for bad in ("", "with space", "x" * 200, "é"):
        made = request_id({"x-request-id": bad})
        assert made not in ("", bad)
        assert made.isalnum()
    assert request_id({}) != request_id({})


def test_the_fallback_header_is_there_only_when_there_was_one() -> None:
    upstream = Upstream(name="a", names=("a",), url="", capabilities=Capabilities())
    choice = Choice(upstream=upstream, route="code", reason="r", model="a")
    assert "x-gpuserve-fallback" not in routed(choice)
