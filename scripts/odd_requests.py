"""Conversations and request bodies, plain, odd and broken, read in compiled code and in Python.

`scripts/fuzz_compiled` and tests/property/test_compiled.py compare what both say.
"""

import json
from dataclasses import replace
from random import Random

from gpuserve.routing import agents, marks
from gpuserve.routing.body import BadBody, parse_object
from gpuserve.routing.classify import scanned, weighed
from gpuserve.routing.lexicon import PREFIXES
from gpuserve.routing.model import shipped
from gpuserve.routing.request import need_of, plain_need, text_bytes
from gpuserve.routing.tokens import readable, window
from gpuserve.routing.turns import Turns, turns_of

PATH = "/v1/chat/completions"
LONG_CHARS = 5000  # fewer are never left when the middle of a turn is left out
# Characters at the edges of what a word, a space, a script or an encoding is.
_ODD = (
    "\x00\x1f\x7f\x80\x85\xa0ªµ×ßÀÖØÞß÷øÿĀİıŉſɏɐ\u0300\u036f\u0370\u037aΣςЀ\u0590אا\u06ff\u0700"
    "ก\u0dff\u0e00\u1680\u180e\u1e00ḁẞỿἀ\u2000\u200a\u200b\u2028\u202f\u205f\u3000〆世한\ue000\ufb01"
    "ﬀ\ufeff\uffff𝒜𐐀😀\U0010ffff\ud800\udfff'’‘“”–—…"
)
_LETTERS = 'abzAZ09_$#@+.-/([{`"\\;:<>=~ \n\t'


class Maker:
    """Makes conversations out of what the table knows and out of what it does not."""

    def __init__(self) -> None:
        model = shipped()
        lexicon = model.lexicon
        self._known = (
            *sorted({*model.words, *lexicon.words, *lexicon.stems, *lexicon.parts}),
            *sorted(f"{a} {b}" for a, b in (*model.pairs, *lexicon.pairs)),
        )
        self._signs = (
            *sorted(agents.SIGNS),
            *(term for word in sorted(agents.SIGNS) for term, _ in agents.signs_of(word)),
            *(text for text, _ in agents.OTHER_SCRIPTS),
        )
        self._marks = (
            *(text for _, text, _ in (*marks.FIXED, *marks.OF_LINES)),
            *(text for text, _ in marks.OF_CAPITALS),
            *("```", "```python\n", "```TEXT\n", "``` c++\n", "```питон\n", "`x`", "KeyError"),
            *("яError", "fooException", " /etc/x", "я/я", " /я", " --all", "getName", "a_b c_d"),
            *sorted({*lexicon.make, *lexicon.thing}),
        )
        self._prefixes = PREFIXES

    def text(self, random: Random, most: int) -> str:
        """Return a text of up to *most* pieces."""
        pieces: list[str] = []
        for _ in range(random.randrange(most + 1)):
            kind = random.random()
            if kind < 0.55:
                piece = random.choice(self._known)
                if kind < 0.05:
                    piece = random.choice(self._prefixes) + piece
                elif kind < 0.1:
                    piece += random.choice(self._known)
            elif kind < 0.65:
                piece = random.choice(self._signs)
            elif kind < 0.75:
                piece = random.choice(self._marks)
            elif kind < 0.9:
                piece = "".join(random.choices(_LETTERS, k=random.randrange(1, 9)))
            else:
                piece = "".join(random.choices(_ODD, k=random.randrange(1, 5)))
            if random.random() < 0.1:
                piece = piece.upper() if random.random() < 0.5 else piece.title()
            pieces += [piece, random.choice(("", " ", " ", " ", "\n", ". ", "、"))]
        return "".join(pieces)

    def turns(self, random: Random) -> Turns:
        """Return a conversation."""
        long = random.random()
        most = 300 if long < 0.05 else 60 if long < 0.3 else 12
        earlier = tuple(self.text(random, 20)[:300] for _ in range(random.choice((0, 0, 1, 2, 4))))
        return Turns(
            last=self.text(random, most),
            earlier=earlier,
            reply=self.text(random, 15)[:150] if random.random() < 0.5 else "",
            system=self.text(random, most) if random.random() < 0.5 else "",
            tools=("bash",) if random.random() < 0.1 else ("book_flight",),
        )


def difference(turns: Turns) -> str | None:
    """Return how the two verdicts on *turns* differ, None where they do not."""
    found, wanted = scanned(turns), weighed(turns, shipped())
    if found is None or found == wanted:
        return None
    return f"{turns!r}\n  compiled {found}\n  Python   {wanted}"


class Bodies:
    """Makes request bodies, plain ones, odd ones and broken ones."""

    _ROLES = ("user", "user", "assistant", "system", "developer", "tool", "User", "us\ter")
    _TEXTS = ("", "hi", 'a "b" \\ c/d\n', "x" * 400, "日付 é 😀", "\x7f\u2028", "\b\f\r\t")
    _ODD_TEXTS = ("\x01\x00", "\ud83d", "\ude00\ud83d")
    _NUMBERS = (0, 1, 16, 0.25, 1.5, 4096, 10**14)
    _ODD_NUMBERS = (-5, 10**15, 10**400, 1e30, True, None, "7", [1])
    _KEYS = (
        *("stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "seed"),
        *("presence_penalty", "frequency_penalty"),
    )
    _OPTIONS: tuple[object, ...] = (
        {"include_usage": True},
        {"include_usage": False},
        {"include_usage": 1},
        {},
        [],
    )
    _ODD_KEYS = ("tools", "response_format", "stop", "x", "max_output_tokens", "max_\\u0074okens")
    _BYTES = b'{}[]":,\\u0019dDe.E-+ \n\t\x00\x1f\x80\xc3\xff'

    def body(self, random: Random) -> bytes:
        """Return one; most of them are JSON."""
        turns = random.choice((1, 1, 2, 3, 6, 40, 41))
        model = random.choice(("auto", "auto", "m/1", "é", "auto", "", 7))
        pairs: list[tuple[str, object]] = [
            ("model", model),
            ("messages", [self._message(random) for _ in range(turns)]),
        ]
        for key in random.sample(self._KEYS, random.choice((0, 0, 1, 2, 4))):
            stream = random.choice((True, False, True, False, None))
            pairs.append((key, stream if key == "stream" else self._number(random)))
        if random.random() < 0.1:
            pairs.append(("stream_options", random.choice(self._OPTIONS)))
        if random.random() < 0.1:
            pairs.append(("user", random.choice((*self._TEXTS, *self._ODD_TEXTS))))
        if random.random() < 0.05:
            pairs.append((random.choice(self._ODD_KEYS), self._number(random)))
        if random.random() < 0.05:
            pairs.append(random.choice(pairs))
        random.shuffle(pairs)
        if random.random() < 0.05:
            pairs.pop()
        space = random.choice(("", " ", "\n\t"))
        ascii_only = random.random() < 0.5
        dumped = [
            f"{json.dumps(key)}{space}:{space}{json.dumps(value, ensure_ascii=ascii_only)}"
            for key, value in pairs
        ]
        text = f"{space}{{{space}{f'{space},'.join(dumped)}}}{space}"
        raw = text.encode("utf-8", "surrogatepass")
        return self._broken(random, raw) if random.random() < 0.3 else raw

    def _number(self, random: Random) -> object:
        return random.choice(self._NUMBERS if random.random() < 0.95 else self._ODD_NUMBERS)

    def _message(self, random: Random) -> object:
        odd = random.random()
        texts = self._TEXTS if odd > 0.005 else (*self._TEXTS, *self._ODD_TEXTS)
        message: dict[str, object] = {
            "role": random.choice(self._ROLES[: 5 if odd > 0.01 else 8]),
            "content": "".join(random.choices(texts, k=random.randrange(4)))
            * (random.choice((100, 300, 3000)) if odd > 0.99 else 1),
        }
        if odd < 0.015:
            message["name"] = "n"
        elif odd < 0.02:
            message["content"] = [{"type": "text", "text": "hi"}]
        elif odd < 0.025:
            del message["role"]
        elif odd < 0.5:
            message = dict(reversed(message.items()))
        return message

    def _broken(self, random: Random, raw: bytes) -> bytes:
        at = random.randrange(len(raw) + 1)
        some = bytes(random.choices(self._BYTES, k=random.randrange(1, 4)))
        kind = random.random()
        if kind < 0.4:
            return raw[:at] + some + raw[at:]
        if kind < 0.7:
            return raw[:at] + some + raw[at + len(some) :]
        return raw[:at] if kind < 0.85 else raw[:at] + raw[at + 1 :]


def misread(raw: bytes) -> str | None:
    """Return how the compiled part reads the body *raw* differently, None where it does not."""
    found = plain_need(PATH, raw)
    if found is None:
        return None
    try:
        body = parse_object(raw)
        wanted = need_of(PATH, body, text_bytes(raw))
    except BadBody as error:
        return f"{raw!r}\n  compiled {found}\n  Python   {error}"
    turns = turns_of(body)
    cut = found.turns
    # Where middles were left out, what is read of the rest is the same, and so is the verdict.
    if cut is not None and _is_long(cut) and weighed(cut, shipped()) == weighed(turns, shipped()):
        turns, found = _as_read(turns), replace(found, turns=_as_read(cut))
    if replace(wanted, body={}, turns=turns) == found:
        return None
    return f"{raw!r}\n  compiled {found}\n  Python   {wanted}\n  turns    {turns}"


def _is_long(turns: Turns) -> bool:
    return max(len(turns.last), len(turns.system)) > LONG_CHARS


def _as_read(turns: Turns) -> Turns:
    return replace(turns, last=readable(turns.last), system=window(turns.system))
