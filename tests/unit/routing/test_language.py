import pytest

from gpuserve.routing.language import LANGUAGES, language_of


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "What is the best way to learn this?"),
        ("en", "Please explain why the sky is blue, as in the word Straße and 東."),
        ("de", "Kannst du mir bitte einen Brief an meine Bank schreiben?"),
        ("fr", "Comment est-ce que je peux écrire une lettre pour mon patron ?"),
        ("es", "¿Cuál es la capital de Perú y cómo puedo llegar?"),
        ("pt", "Você pode escrever uma carta para o meu chefe?"),
        ("it", "Perché il cielo è blu e come si chiama questo?"),
        ("nl", "Hoe kan ik een brief schrijven aan mijn baas?"),
        ("pl", "Dlaczego niebo jest niebieskie i co to znaczy dla nas?"),
        ("tr", "Bana bir mektup yaz ve bunu nasıl gönderirim?"),
        ("sv", "Hur kan jag skriva ett brev till min chef och vad ska det stå?"),
        ("vi", "Hãy viết một lá thư cho tôi và bạn của tôi"),
        ("id", "Tolong buat sebuah surat untuk saya dan kirim ke dia"),
        ("zh", "请用简单的话解释一下量子力学"),
        ("ja", "簡単な言葉で量子力学を説明してください"),
        ("ko", "양자역학을 쉽게 설명해 주세요"),
        ("ru", "Объясни простыми словами, почему небо голубое"),
        ("uk", "Поясни, чому небо блакитне і як це працює"),
        ("ar", "اشرح لي لماذا السماء زرقاء"),
        ("fa", "چرا آسمان آبی است؟ پاسخ بده"),
        ("he", "למה השמיים כחולים"),
        ("el", "Γιατί ο ουρανός είναι μπλε;"),
        ("th", "ทำไมท้องฟ้าถึงเป็นสีฟ้า"),
        ("hi", "आसमान नीला क्यों है"),
        (
            "en",
            "Why does this fail?\n```\nПривет мир, это длинная строка\n```\nand what is it",
        ),
    ],
)
def test_a_sentence_tells_its_language(language: str, text: str) -> None:
    assert language in LANGUAGES
    assert language_of(text) == language


@pytest.mark.parametrize(
    "text", ["", "ok", "12345", "SELECT", "```\nthe a of\n```", "\ud800", "🙂"]
)
def test_what_cannot_be_told_is_not_named(text: str) -> None:
    assert language_of(text) is None
