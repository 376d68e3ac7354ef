"""TLS, uploads storage, deploys and hooks."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lampstand.site.base import Model, OneOrMore, option
from lampstand.site.types import Command, Count, Flag, Host, Line, Positive, Url
from lampstand.site.units import Duration, Percent


class Tls(Model):
    """Encryption between visitors and the edges."""

    shorthand = "mode"

    mode: Literal["off", "local", "own", "acme"] = option(
        "off",
        "off; local: a certificate authority of your own for development; own: your certificate; acme: certificates "
        "from Let's Encrypt or another ACME authority.",
        "mode: acme\ndomains: [shop.example.com]",
    )
    certificate: Line | None = option(
        None, "File of the certificate and its chain (PEM), with `own`.", "certificate: tls/fullchain.pem"
    )
    key: Line | None = option(None, "File of its private key (PEM), with `own`.", "key: tls/privkey.pem")
    domains: Annotated[tuple[Host, ...], OneOrMore()] = option(
        (),
        "Host names of the site; the first is the main one.",
        "domains: [shop.example.com, www.shop.example.com]",
    )
    email: Annotated[Line, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = option(
        None, "Address the ACME authority writes to before a certificate ends.", "email: admin@example.com"
    )
    hsts: Duration | None = option(
        None,
        "How long browsers insist on TLS (Strict-Transport-Security); by default they do not.",
        "hsts: 1y",
    )
    redirect: Flag = option(True, "Plain HTTP is redirected to HTTPS.", "redirect: false")
    acme_directory: Url = option(
        "https://acme-v02.api.letsencrypt.org/directory",
        "Directory of the ACME authority.",
        "acme_directory: https://acme-staging-v02.api.letsencrypt.org/directory",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Tls":
        if self.mode == "own" and not (self.certificate and self.key):
            raise ValueError("own certificates need their files; add `certificate` and `key`")
        if self.mode == "acme" and not self.domains:
            raise ValueError(
                "ACME needs the names to ask a certificate for; add `domains: [shop.example.com]`"
            )
        return self

    @property
    def enabled(self) -> bool:
        """Whether visitors are served over HTTPS."""
        return self.mode != "off"


class Storage(Model):
    """Where uploads live: the shared folder of the target, or a bucket with the S3 protocol."""

    shorthand = "bucket"

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] | None = option(
        None, "Bucket for uploads; without it they live in a shared folder.", "bucket: shop-uploads"
    )
    endpoint: Url | None = option(
        None, "URL of the service, when it is not Amazon's.", "endpoint: https://s3.example.com"
    )
    region: Line | None = option(None, "Region of the bucket.", "region: eu-central-1")
    prefix: Line = option("", "Beginning of every object's key.", "prefix: uploads/")


class Deploy(Model):
    """How a release replaces another."""

    keep: Positive = option(5, "Releases that are kept, so that they can be rolled back to.", "keep: 10")
    canary: Percent | None = option(
        None, "Share of the visitors who get the new release first; by default all at once.", "canary: 10%"
    )
    canary_time: Duration = option(
        300.0, "How long the canary is compared with the old release.", "canary_time: 15m"
    )
    error_budget: Percent = option(
        0.01, "Share of failed requests above which the old release returns by itself.", "error_budget: 0.5%"
    )
    latency_budget: Annotated[float, Field(ge=1, le=100)] = option(
        2.0, "The canary's p99 may be so many times the old release's.", "latency_budget: 1.5"
    )
    assets_keep: Duration = option(
        604_800.0, "How long assets of old releases are still served.", "assets_keep: 30d"
    )
    checks: Positive = option(
        3, "Good answers of the health path before a new server gets requests.", "checks: 5"
    )
    timeout: Duration = option(1800.0, "Longer than this and the deploy is taken back.", "timeout: 1h")
    requests: Annotated[
        tuple[Annotated[Line, Field(pattern=r"^(GET|HEAD|POST|PUT|PATCH|DELETE) /\S*( .*)?$")], ...],
        OneOrMore(),
    ] = option(
        (),
        "What a deploy asks the site all the time, to measure itself: method, path and, for one that writes, a form. "
        "Every writing one carries an Idempotency-Key of its own. By default the health path and `/`.",
        "requests: [GET /, POST /messages author=deploy&text=hello]",
    )
    history: Count = option(50, "Receipts of deploys that are kept.", "history: 200")


class Hooks(Model):
    """Commands around a deploy, run where `lampstand` runs, in the project's folder."""

    before_deploy: Command | None = option(
        None, "Before anything changes; its failure stops the deploy.", "before_deploy: ./bin/check"
    )
    after_deploy: Command | None = option(
        None, "When the new release serves.", "after_deploy: ./bin/announce done"
    )
    on_failure: Command | None = option(
        None, "When a deploy failed or was taken back.", "on_failure: ./bin/announce failed"
    )
