"""`python -m guestbook.fingerprint`: run it after editing a file in public/assets.

Each file is renamed after its content (app.css is app.1a2b3c4d.css) and the manifest says which name is current.
There is no other build step and no second copy.
"""

import hashlib
import json
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "public" / "assets"


def fingerprinted(name: str, content: bytes) -> str:
    """The name that a file with this content has."""
    path = Path(name)
    return f"{path.stem}.{hashlib.sha256(content).hexdigest()[:8]}{path.suffix}"


def main() -> None:
    """Renames what has changed."""
    manifest: dict[str, str] = json.loads((ASSETS / "manifest.json").read_text())
    for name, current in manifest.items():
        renamed = fingerprinted(name, (ASSETS / current).read_bytes())
        if renamed != current:
            (ASSETS / current).rename(ASSETS / renamed)
            manifest[name] = renamed
            print(f"{current} -> {renamed}")
    (ASSETS / "manifest.json").write_text(json.dumps(manifest, indent=4) + "\n")


if __name__ == "__main__":
    main()
