"""The errors of a GPU that the NVIDIA driver writes into the kernel's log, and what they mean.

A line reads `NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', GPU has fallen off the bus.` The
meanings are those of NVIDIA's "XID Errors" (https://docs.nvidia.com/deploy/xid-errors/), which also
says that one may have many causes.
"""

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<bus>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2})(?:\.\d)?\): "
    r"(?P<number>\d{1,5})(?:, (?P<rest>.*))?"
)
_MEANING = {
    8: "the GPU stopped processing",
    13: "an exception of the compute engine, most often of the program",
    31: "a page fault of the GPU's memory, most often of the program",
    43: "the GPU stopped processing for a program",
    45: "work was cleaned up, because of an error before or because its program ended",
    48: "a double bit error of its memory (ECC)",
    61: "its microcontroller stopped at a breakpoint",
    62: "its microcontroller halted",
    63: "a page of its memory was retired or a row remapped",
    64: "a page of its memory could not be retired, or a row not remapped",
    74: "an error of NVLink",
    79: "the GPU has fallen off the bus",
    92: "many single bit errors of its memory (ECC)",
    94: "an error of its memory that could be contained (ECC)",
    95: "an error of its memory that could not be contained (ECC)",
    119: "its system processor (GSP) does not answer",
    120: "an error of its system processor (GSP)",
    154: "the driver says that it must be recovered",
}
# After these the driver may not reach it any more: worth a look at once.
_LOST = frozenset((62, 79, 119, 120, 154))
_LONGEST_WORDS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One error: of the GPU at `bus` ("0000:65:00"), its number, and the driver's own words."""

    bus: str
    number: int
    words: str = ""

    @property
    def lost(self) -> bool:
        """Whether the driver may have lost the GPU."""
        return self.number in _LOST

    @property
    def meaning(self) -> str:
        """What it is, for people; the driver's own words where the number is not known."""
        return _MEANING.get(self.number) or self.words or "not known here"


def read_xid(line: str) -> Xid | None:
    """Return the error that *line* of the kernel's log tells, None if it tells none."""
    match = _LINE.search(line)
    if match is None:
        return None
    # The driver writes the domain with four digits or with eight.
    domain, _, rest = match["bus"].lower().partition(":")
    words = (match["rest"] or "").strip()[:_LONGEST_WORDS]
    return Xid(bus=f"{domain[-4:]}:{rest}", number=int(match["number"]), words=words)
