"""`lampstand export aws`: templates and a script that make the site with nothing but the AWS CLI."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from lampstand.files import write_text
from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.stacks import Stack, stacks
from lampstand.targets.aws.viewer import templates

ARGUMENTS: Mapping[str, str] = {
    "CloudFrontPrefixList": '"$list"',
    "HostedZone": '"$zone"',
    "Release": '"$release"',
}
"""Parameter of a template -> the script's word for it."""


def files(scope: Scope, region: str, releases: Mapping[str, str]) -> dict[str, str]:
    """Path -> text of everything that is written; `releases` maps ids to documents. Pure."""
    many = stacks(scope)
    result = {f"{stack.key}.json": stack.template.as_json() for stack in many}
    result |= {f"releases/{name}.json": text for name, text in releases.items()}
    result["apply.sh"] = (
        templates()
        .get_template("apply.sh.j2")
        .render(
            site=scope.site.site,
            prefix=scope.prefix,
            region=region,
            domain=scope.aws.domain,
            zone=scope.aws.zone,
            tags=" ".join(shlex.quote(f"{k}={v}") for k, v in scope.tags("site").items()),
            stacks=[{"key": s.key, "region": s.region, "arguments": _arguments(scope, s)} for s in many],
        )
    )
    return result


def write(folder: Path, many: Mapping[str, str]) -> list[str]:
    """Write the files; returns their paths."""
    written: list[str] = []
    for name, text in many.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text, 0o755 if name.endswith(".sh") else 0o644)
        written.append(str(path))
    return written


def _arguments(scope: Scope, stack: Stack) -> str:
    words: list[str] = []
    for name, parameter in stack.template.parameters.items():
        if name == "Certificate":
            words.append("Certificate=" + (scope.aws.certificate or '"$certificate"'))
        elif parameter.default is None:
            words.append(f"{name}={ARGUMENTS[name]}")
    return "".join(f" {word}" for word in words)
