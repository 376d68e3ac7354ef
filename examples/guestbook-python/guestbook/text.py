"""What visitors write."""

import unicodedata

from guestbook.errors import InvalidError

DIRECTION_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str, limit: int, what: str) -> str:
    """Trimmed, without control characters, 1 to `limit` characters; otherwise InvalidError."""
    text = text.replace("\r\n", "\n")
    text = "".join(
        character
        for character in text
        if character in "\n\t"
        or (unicodedata.category(character) not in {"Cc", "Cs"} and character not in DIRECTION_OVERRIDES)
    ).strip()
    if not text:
        raise InvalidError(f"{what} is missing.")
    if len(text) > limit:
        raise InvalidError(f"{what} is longer than {limit} characters.")
    return text
