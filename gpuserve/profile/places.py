"""What a path in a profile means: relative to the profile, unless it is only found elsewhere.

Looks at the disk, and nowhere else do the profile's parts but `load`.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_INLINE = re.compile(r"\{[{%#]|\n")


def is_inline(template: str) -> bool:
    """Whether *template* is a Jinja text, and not the name of a file that holds one."""
    return _INLINE.search(template) is not None


@dataclass(frozen=True, slots=True)
class Places:
    """The directory of the profile, and the current one."""

    profile: Path
    current: Path

    def weights(self, text: str) -> str:
        """Return the absolute directory that *text* names, or *text*, a hub id.

        A directory begins with `/`, `./`, `../` or `~`, or exists beside the profile.
        """
        path = Path(os.path.expanduser(text))  # noqa: PTH111 - "~nobody" is no reason to fail
        explicit = text.startswith(("/", "./", "../", "~")) or text in {".", ".."}
        beside = self.profile / path
        return _tidy(beside) if explicit or beside.is_dir() else text

    def executable(self, text: str) -> str:
        """Return *text* if it is a bare name, to be found on PATH, else an absolute path.

        A relative path is looked up in the profile's directory, then in the current one,
        because a shipped profile is started from the checkout that holds the environment.
        """
        if "/" not in text:
            return text
        return _tidy(self._beside(Path(os.path.expanduser(text))))  # noqa: PTH111 - as above

    def template(self, text: str) -> str:
        """Return the absolute file that *text* names, or *text*, which is the template itself."""
        if is_inline(text):
            return text
        return _tidy(self._beside(Path(os.path.expanduser(text))))  # noqa: PTH111 - as above

    def file(self, text: str) -> str:
        """Return the absolute file that *text* names."""
        return _tidy(self._beside(Path(os.path.expanduser(text))))  # noqa: PTH111 - as above

    def _beside(self, path: Path) -> Path:
        first, second = self.profile / path, self.current / path
        # os.path: a text too long to be a file name is one that does not exist, and no error.
        there, here = os.path.exists(first), os.path.exists(second)  # noqa: PTH110 - as said
        return second if here and not there else first


def _tidy(path: Path) -> str:
    """Return *path* without `..` in it, if that is the same place: links may differ."""
    tidy = os.path.normpath(path)
    return tidy if os.path.realpath(tidy) == os.path.realpath(path) else str(path)
