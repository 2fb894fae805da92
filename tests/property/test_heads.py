"""The router's parser of heads against aiohttp's and h11's; `scripts/fuzz_heads` does more."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuserve.router.chunks import Chunks
from gpuserve.router.head import UNSURE, Bad, Head, Slow, read_head
from scripts.fuzz_heads import NEXT, Judge, chunked, request


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    judge = Judge()
    yield judge
    judge.close()


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_taken_is_read_alike_by_all(judge: Judge, random: Random) -> None:
    raw = request(random)
    assert judge.disagreement(raw) is None, raw


def test_twenty_thousand_requests_are_of_every_kind_and_read_alike(judge: Judge) -> None:
    random = Random(1)
    for _ in range(20_000):
        raw = request(random)
        assert judge.disagreement(raw) is None, raw
    assert {"carried", "slow", "refused", "unsure", "chunked"} <= judge.kinds.keys()
    assert judge.kinds["carried"] > 2000  # else nothing was compared


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.data())
def test_a_head_is_the_same_however_it_arrives(random: Random, data: st.DataObject) -> None:
    raw = request(random)
    found = read_head(raw)
    cut = data.draw(st.integers(min_value=1, max_value=len(raw)))
    early = read_head(raw[:cut])
    # What is known from a part is known for good; only a doubt may be dispelled.
    if isinstance(early, Head) or (isinstance(early, Slow) and early.length != UNSURE):
        assert early == found
    if isinstance(early, Bad):
        assert isinstance(found, Bad)


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.data())
def test_chunks_end_at_the_same_byte_however_they_arrive(
    random: Random, data: st.DataObject
) -> None:
    raw = chunked(random) + NEXT
    at_once = Chunks()
    passed = at_once.feed(raw)
    in_parts, said, at = Chunks(), b"", 0
    while at < len(raw) and not (in_parts.done or in_parts.failed):
        size = data.draw(st.integers(min_value=1, max_value=40))
        said += in_parts.feed(raw[at : at + size])
        at += size
    assert (in_parts.done, in_parts.failed) == (at_once.done, at_once.failed)
    if at_once.done:
        assert said == passed
        assert in_parts.excess + raw[at:] == at_once.excess
