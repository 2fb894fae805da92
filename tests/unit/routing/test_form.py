import time

import pytest

from gpuserve.routing.body import BadBody
from gpuserve.routing.form import MOST_PARTS, form_model

TYPE = "multipart/form-data; boundary=x"


def part(head: str, content: bytes = b"whisper") -> bytes:
    return (
        b"--x\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    )


FILE = part('name="file"; filename="model"', b'\r\n; name="model"\r\n\r\nnot this\r\n')
END = b"--x--\r\n"


@pytest.mark.parametrize(
    "field",
    [
        part('name="model"'),
        part("name=model"),
        part('NAME="mo\\del"'),
        b"--x \r\nA: b\r\ncontent-disposition:form-data;name=model\r\n\r\nwhisper\r\n",
    ],
)
def test_the_model_of_a_form_is_found_before_and_behind_files(field: bytes) -> None:
    assert form_model(FILE + field + END, TYPE) == "whisper"
    assert form_model(b"preamble\r\n" + field + FILE + END, TYPE) == "whisper"


def test_a_form_without_the_field_or_with_an_empty_one_names_no_model() -> None:
    assert form_model(END, TYPE) is None
    assert form_model(FILE + END, TYPE) is None
    assert form_model(part('name="model"', b"") + END, TYPE) is None
    assert (
        form_model(b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n--x--', TYPE)
        is None
    )


def test_what_stands_in_a_file_or_behind_the_end_is_no_field() -> None:
    inside = part('name="file"', b"\r\n--xy\r\n" + part('name="model"')[3:])
    assert form_model(inside + END, TYPE) is None
    assert form_model(END + part('name="model"') + END, TYPE) is None


def test_a_quoted_boundary_is_read_and_another_parameters_text_is_not() -> None:
    raw = part('name="model"').replace(b"--x", b"--a b;c") + b"--a b;c--"
    told = 'multipart/form-data; note="; boundary=no"; Boundary="a b;c"; charset=utf-8'
    assert form_model(raw, told) == "whisper"


@pytest.mark.parametrize(
    ("raw", "kind", "says"),
    [
        (part('name="model"') + END, "multipart/form-data", "names no boundary"),
        (part('name="model"') * 2 + END, TYPE, "stands twice"),
        (part('name="model"', b"m" * 300) + END, TYPE, "no end within 256 bytes"),
        (part('name="model"')[:-4], TYPE, "no end"),
        (part('name="a"') * (MOST_PARTS + 1) + END, TYPE, "more than 2,000 parts"),
    ],
)
def test_a_form_that_readers_would_disagree_about_is_refused(
    raw: bytes, kind: str, says: str
) -> None:
    with pytest.raises(BadBody, match=says):
        form_model(raw, kind)


@pytest.mark.parametrize(
    "piece",
    [
        b"name=model\r\n",
        b"a: b\r\n",
        b"\r\n",
        b"\r\n--xy",
        b"\r\n--x\ra",
        b'; name="',
        b"-",
        b"x" * 4096,
    ],
)
@pytest.mark.parametrize("first", [b"", b"--x\r\nContent-Disposition: form-data"])
def test_the_time_grows_with_a_hostile_form_and_no_faster(first: bytes, piece: bytes) -> None:
    small, large = (_cpu_s(first + piece * (size // len(piece))) for size in (1 << 20, 32 << 20))
    # 32 if it is linear, 1,024 if it is not.
    assert large / small < 200


def _cpu_s(raw: bytes) -> float:
    def once() -> float:
        began = time.process_time_ns()
        form_model(raw, TYPE)
        return time.process_time_ns() - began

    return min(once() for _ in range(3))
