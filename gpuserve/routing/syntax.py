"""What code, shells, logs and configuration look like, as patterns with weights in log-odds.

Every repetition is bounded or anchored where a run begins, so that no text makes them slow: at
most 2,000 characters are searched, in time that grows with their number and no faster.
"""

import re
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """One thing to look for: `first` for the first hit, `more` for each further, up to `most`.

    Text without any of `hints` has no hit and need not be searched; empty: always search.
    """

    name: str
    first: float
    more: float
    most: int
    pattern: re.Pattern[str]
    hints: tuple[str, ...] = ()

    def hits(self, text: str) -> int:
        """Return how often it is in *text*, counting no further than `most`."""
        if self.hints and not any(hint in text for hint in self.hints):
            return 0
        return sum(1 for _ in islice(self.pattern.finditer(text), self.most))


def _syntax(
    name: str,
    first: float,
    *alternatives: str,
    more: float = 0.0,
    most: int = 1,
    hints: tuple[str, ...] = (),
) -> Syntax:
    pattern = re.compile("|".join(alternatives), re.MULTILINE)
    return Syntax(name=name, first=first, more=more, most=most, pattern=pattern, hints=hints)


# What Node and libuv print (errno(3)).
_ERRNO = ("ENOENT", "EACCES", "EADDRINUSE", "ECONNREFUSED", "ECONNRESET", "EPERM", "EEXIST")

SYNTAX: tuple[Syntax, ...] = (
    _syntax(
        "stack trace",
        5.0,
        r"^Traceback \(most recent",
        r"^[ \t]+at [\w.$<>]{1,99} ?\([^)\n]{0,99}:\d+",
        r'^[ \t]*File "[^"\n]{1,200}", line \d+',
        r"^goroutine \d+ \[",
        r"^panic: ",
        r"^Caused by: ",
    ),
    _syntax(
        "diff",
        5.0,
        r"^diff --git ",
        r"^@@ -\d+(?:,\d+)? \+\d+",
        r"^--- a/",
        r"^\+\+\+ b/",
    ),
    _syntax(
        "error type",
        2.5,
        r"(?:Error|Exception)\b(?<=\w{7})",
        r"error TS\d",
        r"error\[E\d",
        r"npm ERR!",
        "|".join(_ERRNO),
        r"[Ss]egmentation fault",
        r"undefined reference",
        more=0.5,
        most=2,
        hints=("Error", "Exception", "error TS", "error[", "ERR!", "fault", "reference", *_ERRNO),
    ),
    _syntax(
        "file name",
        2.2,
        r"(?<=[\w*-])\.(?:py|pyx|ipynb|js|mjs|jsx|tsx?|java|kt|scala|cc?|cpp|h|hpp|cs|go|rs|rb|php"
        r"|pl|lua|swift|sh|bash|sql|ya?ml|toml|ini|cfg|conf|xml|html?|css|scss|vue|svelte|ko?|exe"
        r"|dll|jar|whl|lock|gradle|tf|proto|log|csv|tar|gz|bat|ps1|md|json)\b",
        more=0.5,
        most=3,
        hints=(".",),
    ),
    _syntax(
        "definition",
        3.5,
        r"^[ \t]*(?:async +)?(?:def|fn|func) +\w+ *[(<]",
        r"^[ \t]*class +\w+ *[(:{]",
        r"^[ \t]*#include\b",
        r"^[ \t]*(?:from +[\w.]+ +)?import +[\w.{*]+(?: as \w+)?;?$",
        r"^[ \t]*(?:const|let|var) +[\w{\[].*=",
        r"^[ \t]*(?:public|private|protected|static) +\w+",
        r"^[ \t]*package +[\w.]+;?$",
        r"^[ \t]*@\w+(?:\.\w+)?(?:\(|$)",
        r"^[ \t]*using +[\w.]+;",
        more=0.5,
        most=2,
    ),
    _syntax(
        "function body",
        3.0,
        r"\bfunction *\w*\([\w, ]{0,99}\) *\{",
        hints=("function",),
    ),
    _syntax(
        "SQL",
        3.5,
        r"\bSELECT\b[^.?!]{1,200}\bFROM\b",
        r"\bINSERT INTO\b",
        r"\bCREATE (?:TABLE|INDEX|VIEW)\b",
        r"\bALTER TABLE\b",
        r"\bDELETE FROM\b",
        r"\bUPDATE \w+ SET\b",
        r"\bselect\s[\w*., ]{1,120}\sfrom\s+\w+(?:\s+where|\s+order|\s+join|;|$)",
        hints=("SELECT", "INSERT", "CREATE", "ALTER", "DELETE", "UPDATE", "select"),
    ),
    _syntax(
        "shell",
        2.5,
        r"^#!/",
        r"^[ \t]*(?:\$ +|sudo |git |docker |kubectl |npm |pip3? |cd |ls -|curl |wget |chmod )",
        r"^[ \t]*make (?:-|all|install|build|test)",
        r"^[ \t]*(?:apt(?:-get)? |brew |cargo |export \w+=|echo [\"$])",
        more=0.5,
        most=2,
    ),
    _syntax(
        "option",
        1.8,
        r"(?<![\w-])-(?:-[a-z][a-z-]{2,}\b|[a-zA-Z]{1,4}(?=\s+\S))",
        more=0.4,
        most=3,
        hints=("-",),
    ),
    _syntax(
        "call",
        1.8,
        r"(?<=\w)\(\)",
        r"(?<![\w.])\w{1,40}[._]\w[\w.]{0,60}\(",
        more=0.4,
        most=3,
        hints=("(",),
    ),
    _syntax(
        "identifier",
        1.6,
        r"\b[a-z](?:[a-z0-9]{0,40}_[a-z0-9_]|[a-z]{0,30}[A-Z][a-z])",
        r"`[^`\n]{1,60}`",
        more=0.4,
        most=3,
    ),
    _syntax(
        "operator",
        1.8,
        r"(?<![ =]{3})[=!]==?(?!=)",
        r"=>|->|::|&&|\|\||\+=|<<|\{\{|\$\{|\$[A-Za-z_]",
        r"</?[a-zA-Z][\w-]*(?: [^<>\n]{0,200})?/?>",
        r"\[\d*+:?-?\d*+\]",
        r"\w\[['\"\w]+\]",
        more=0.4,
        most=3,
        hints=("=", ">", "::", "&&", "||", "<<", "{{", "${", "$", "["),
    ),
    _syntax("statement end", 1.5, r"(?:[;{}]|\):)[ \t]*$", more=0.4, most=4),
    _syntax(
        "literal list",
        1.0,
        r"\[ *(?:['\"][^'\"\n]{0,80}['\"]|-?\d+) *,[^\]\n]{0,200}\]",
        r"\{ *['\"]\w+['\"] *:",
        hints=("[", "{"),
    ),
    _syntax(
        "config",
        2.0,
        r"^(?:apiVersion|kind|services|version|jobs|on|steps|image): ?\S*$",
        r"^\[[\w.\"-]+\][ \t]*$",
        r"^[ \t]*- (?:name|uses|run|image): ",
        r"^(?:FROM|RUN|COPY|ENTRYPOINT) \S",
        r"^[ \t]*(?:server|location|upstream)\b[^\n{]*\{",
    ),
    _syntax(
        "path",
        1.6,
        r"(?<![\w:/<])(?:~|\.{1,2})?/(?:[\w.-]+/)+[\w.*-]*",
        r"\b[A-Z]:\\\w",
        more=0.3,
        most=2,
        hints=("/", "\\"),
    ),
)

PROSE_FENCES = frozenset(("text", "txt", "markdown", "md", "quote"))
FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+#.-]*)", re.MULTILINE)
FORMULA = re.compile(r"\\(?:frac|int|sum|sqrt|begin|mathbb|cdot)\b|\$\$")
# Lines that code does not have: words, spaces and a full stop.
SENTENCE = re.compile(r"^[A-Z][\w ,'’\"()-]{50,}[.!?]", re.MULTILINE)
