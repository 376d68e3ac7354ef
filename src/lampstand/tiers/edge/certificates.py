"""What `lampstand doctor` says of a certificate: whether it ends, fits its key and names, and leads to an authority."""

import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

SOON = timedelta(days=14)
"""Before its end a certificate should have been renewed by then: certbot renews 30 days before."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is so."""

    outcome: Literal["good", "warning", "bad"]
    text: str
    mend: str = ""


def examine(
    certificate: Path,
    key: Path,
    names: Sequence[str],
    *,
    authority: Path | None = None,
    now: datetime | None = None,
) -> Iterator[Finding]:
    """What is good and bad about a certificate (PEM, with its chain behind it) and its private key.

    `names` are the hosts that it must be for, `authority` one that is trusted beside the machine's own.
    Asks openssl(1).
    """
    for path in (certificate, key):
        if not path.is_file():
            yield Finding("bad", f"{path} is not there", "see `tls.certificate` and `tls.key`")
            return
    told = _openssl("x509", "-in", str(certificate), "-noout", "-subject", "-enddate", "-nameopt", "RFC2253")
    if told is None:
        yield Finding(
            "bad", f"{certificate} holds no certificate (PEM)", "the certificate comes first, then its chain"
        )
        return
    yield _ending(told, now or datetime.now(UTC))
    public = _openssl("x509", "-in", str(certificate), "-noout", "-pubkey")
    if public != _openssl("pkey", "-in", str(key), "-pubout"):
        yield Finding(
            "bad", f"{key} is not the key of {certificate}", "the two files belong to different certificates"
        )
    for name in names:
        said = _openssl("x509", "-in", str(certificate), "-noout", "-checkhost", name) or ""
        if "does match" not in said:
            yield Finding(
                "bad", f"the certificate is not for {name}", "ask for one with all of `tls.domains`"
            )
    yield _chain(certificate, authority)


def served(certificate: Path, host: str, port: int) -> Iterator[Finding]:
    """Whether visitors get this certificate. Nothing where nobody answers: the site may be down."""
    try:
        given = ssl.get_server_certificate((host, port), timeout=2.0)
    except OSError:
        return
    if ssl.PEM_cert_to_DER_cert(given) == ssl.PEM_cert_to_DER_cert(_first(certificate.read_text())):
        yield Finding("good", f"visitors get it on port {port}")
    else:
        yield Finding(
            "bad", f"visitors get another certificate on port {port}", "`lampstand up` loads the new one"
        )


def _first(pem: str) -> str:
    begin = pem.index("-----BEGIN CERTIFICATE-----")
    return pem[begin : pem.index("-----END CERTIFICATE-----", begin) + 26]


def _ending(told: str, now: datetime) -> Finding:
    fields: dict[str, str] = {}
    for line in told.splitlines():
        name, _, value = line.partition("=")
        fields[name] = value
    month, day, time, year, _ = fields["notAfter"].split()
    end = parsedate_to_datetime(f"{day} {month} {year} {time} +0000")
    left = end - now
    text = f"{fields['subject']}, until {end:%Y-%m-%d} ({left.days} days)"
    if left <= timedelta():
        return Finding("bad", f"{text}: it has ended", "renew it")
    if left < SOON:
        return Finding("warning", f"{text}: it ends soon", "renew it")
    return Finding("good", text)


def _chain(certificate: Path, authority: Path | None) -> Finding:
    """Whether the file leads to an authority that browsers (or, for a local one, its developers) trust."""
    trusted = ("-CAfile", str(authority)) if authority else ()
    argv = ("openssl", "verify", *trusted, "-untrusted", str(certificate), str(certificate))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("good", "the chain is complete")
    why = (
        next((line for line in done.stderr.splitlines() if "lookup:" in line), "")
        .partition("lookup:")[2]
        .strip()
    )
    return Finding(
        "warning",
        f"the chain does not lead to an authority that this machine trusts ({why or 'openssl verify failed'})",
        "put the certificates of the intermediate authorities behind it (fullchain.pem); an authority of your own must "
        "be trusted by the visitors",
    )


def _openssl(*arguments: str) -> str | None:
    """What openssl prints; None when it fails."""
    done = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
