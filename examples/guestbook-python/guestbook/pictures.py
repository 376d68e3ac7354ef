"""Pictures in a folder that all web servers share. A file is named after its content and never changes."""

import hashlib
import re
import secrets
from pathlib import Path

from guestbook.errors import InvalidError, UnavailableError

LIMIT_BYTES = 2 * 1024 * 1024
KINDS = {
    "jpg": re.compile(rb"\xff\xd8\xff"),
    "png": re.compile(rb"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL),
}


def kind_of(content: bytes) -> str:
    """The ending that fits. The content decides, neither the name nor the type that the visitor claims."""
    for ending, beginning in KINDS.items():
        if beginning.match(content):
            return ending
    raise InvalidError("A picture is a JPEG, PNG, GIF or WebP.")


class Pictures:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, content: bytes) -> str:
        """Checks and keeps an uploaded picture; returns the name it is served under."""
        if len(content) > LIMIT_BYTES:
            raise InvalidError("A picture has at most 2 MiB.", 413)
        name = f"{hashlib.sha256(content).hexdigest()[:40]}.{kind_of(content)}"
        path = self.folder / name
        if path.exists():
            return name
        # Written beside and renamed: no other web server ever serves half a picture.
        part = path.with_name(f"{name}.{secrets.token_hex(6)}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.chmod(0o644)
            part.rename(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UnavailableError(f"uploads: {error}") from error
        return name
