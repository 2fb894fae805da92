"""The language that a text is written in, told from its script and its commonest words.

Good enough to route a sentence, and no more: of a Latin script it knows the languages listed
here, it needs a few words, and what it does not know it does not name.
"""

import re
from collections import Counter
from collections.abc import Mapping

# Characters read; a language shows in its first sentences.
_READ_CHARS = 1000
# Fewer known words than this, or hardly more than another language has, name nothing.
_FEWEST_WORDS = 2
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The commonest words of each (articles, pronouns, prepositions, question words), those that two
# share left in both.
_LATIN: Mapping[str, frozenset[str]] = {
    "en": _words(
        "the a an and or of to in on for with is are was be it this that you i my me we he she"
        " they what how why who when where which can could should would do does not from by as at"
        " please write make give your our have has"
    ),
    "de": _words(
        "der die das den dem des ein eine einen einem einer und oder nicht ist sind war ich du er"
        " sie es wir ihr mir mich dir wie was warum wer wann wo welche kann kannst soll für mit von"
        " zu im in auf bei aus bitte auch noch aber wenn dass schreibe schreib meine mein"
    ),
    "fr": _words(
        "le la les un une des du de et ou est sont était je tu il elle nous vous ils ce cette ces"
        " que qui quoi comment pourquoi quand où quel quelle pour avec dans sur par pas ne mon ma"
        " mes écris peux au aux en se plaît c'est l'on qu'est"
    ),
    "es": _words(
        "el la los las un una unos de del y o es son era yo tú él ella nosotros que qué quién cómo"
        " cuándo dónde cuál por para con en sobre no mi mis su sus me te se lo al como escribe"
        " puedes favor más este esta"
    ),
    "pt": _words(
        "o a os as um uma de do da dos das e ou é são era eu você ele ela nós que quem como quando"
        " onde qual por para com em no na não meu minha seu sua me se ao mais este esta escreva"
        " pode favor isso"
    ),
    "it": _words(
        "il lo la i gli le un uno una di del della dei e o è sono era io tu lui lei noi che chi"
        " cosa come quando dove quale perché per con in su non mio mia mi si al alla più questo"
        " questa scrivi puoi favore"
    ),
    "nl": _words(
        "de het een en of is zijn was ik jij je hij zij wij wat hoe waarom wie wanneer waar welke"
        " kan kun voor met van te in op aan niet dit dat mijn schrijf als maar ook bij naar"
    ),
    "pl": _words(
        "i w na z do nie się jest są to co jak dlaczego kto kiedy gdzie który dla od po ale czy"
        " mi mnie mój moja proszę napisz że o za ten ta te jestem mam może"
    ),
    "tr": _words(
        "bir ve bu da de için ile ne nasıl neden kim ne nerede hangi mi mı mu mü ben sen o biz"
        " olarak gibi daha çok var yok lütfen yaz bana beni olan"
    ),
    "vi": _words(
        "là và của có cho một không trong với tôi bạn này được các những như thế nào hãy viết"
        " người để từ ở đã sẽ khi"
    ),
    "sv": _words(
        "och att det som en ett är på av för med inte jag du han hon vi hur vad varför vem när var"
        " kan ska den till från om skriv min mitt"
    ),
    "id": _words(
        "dan yang di ke dari untuk dengan ini itu adalah tidak saya kamu anda apa bagaimana"
        " mengapa siapa kapan dimana bisa tolong tulis buat pada dalam sebuah akan"
    ),
}
# First and last code point of what only one language (here) is written in; kana and hangul come
# before the characters that Chinese shares with Japanese.
_SCRIPTS: tuple[tuple[str, int, int], ...] = (
    ("ja", 0x3040, 0x30FF),
    ("ko", 0x1100, 0x11FF),
    ("ko", 0xAC00, 0xD7AF),
    ("zh", 0x3400, 0x9FFF),
    ("ru", 0x0400, 0x04FF),
    ("ar", 0x0600, 0x06FF),
    ("he", 0x0590, 0x05FF),
    ("el", 0x0370, 0x03FF),
    ("th", 0x0E00, 0x0E7F),
    ("hi", 0x0900, 0x097F),
)
# Letters of Ukrainian that Russian lacks, and of Persian that Arabic lacks.
_UKRAINIAN = frozenset("іїєґІЇЄҐ")
_PERSIAN = frozenset("پچژگ")
# A foreign name in an English sentence does not make it foreign.
_LEAST_SHARE = 0.2

LANGUAGES: frozenset[str] = frozenset(_LATIN) | {code for code, _, _ in _SCRIPTS} | {"uk", "fa"}


def language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of the language of *text*, one of LANGUAGES, None if unclear.

    Code between backticks is not read, nor what stands behind the first 1,000 characters.
    """
    text = _CODE.sub(" ", text[:_READ_CHARS])
    if not text.isascii():
        script = _script(text)
        if script is not None:
            return script
    words = Counter(word.replace("’", "'") for word in _WORD.findall(text.lower()))
    scores = {
        code: sum(n for word, n in words.items() if word in known) for code, known in _LATIN.items()
    }
    first, second = sorted(scores.values(), reverse=True)[:2]
    if first < _FEWEST_WORDS or first == second:
        return None
    return max(scores, key=lambda code: scores[code])


def _script(text: str) -> str | None:
    counts: Counter[str] = Counter()
    letters = 0
    for char in text:
        if not char.isalpha():
            continue
        letters += 1
        if char > "\u036f":
            code = ord(char)
            counts[next((name for name, a, z in _SCRIPTS if a <= code <= z), "")] += 1
    counts.pop("", None)
    foreign = sum(counts.values())
    if not foreign or foreign < letters * _LEAST_SHARE:
        return None
    if counts["ja"]:
        return "ja"  # its sentences hold Chinese characters, Chinese ones no kana
    (name, _), *_ = counts.most_common(1)
    if name == "ru" and not _UKRAINIAN.isdisjoint(text):
        return "uk"
    if name == "ar" and not _PERSIAN.isdisjoint(text):
        return "fa"
    return name
