"""`python -m lampstand.site` in a checkout: writes the published documents of the site file anew."""

from pathlib import Path

from lampstand.site.docs import json_schema_text, markdown

PUBLISHED = {"schema/lampstand.schema.json": json_schema_text, "docs/site-file.md": markdown}
"""Files of the project that are generated from the models."""


def main() -> None:
    """Writes the files below the current folder."""
    for name, text in PUBLISHED.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
