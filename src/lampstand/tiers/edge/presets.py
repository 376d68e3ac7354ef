"""Rules for well-known applications. They come after the user's own rules and before the ones of every site."""

from collections.abc import Mapping
from dataclasses import dataclass

from lampstand.site import Rule


@dataclass(frozen=True, slots=True)
class Preset:
    """The rules of one application."""

    rules: tuple[tuple[str, Rule], ...] = ()
    """Named rules, tried in this order."""
    cookies: tuple[str, ...] = ()
    """Cookies (patterns) that mean a session: such a request for a page is the application's alone."""
    ignored_cookies: tuple[str, ...] = ()
    """Cookies (patterns) that only scripts in the browser read: they never reach the application, so that
    `Vary: Cookie` does not make a page of its own for every visitor."""
    ttl: float | None = None
    """Seconds that the edges keep pages of an application that says nothing about it; None is what the answer says."""
    stale_while_revalidate: float | None = None
    """Seconds, for pages; None is the site's."""


def _rule(**keys: object) -> Rule:
    """A rule as the site file would write it."""
    return Rule.model_validate(keys)


PRESETS: Mapping[str, Preset] = {
    "none": Preset(),
    "wordpress": Preset(
        rules=(
            (
                "admin",
                _rule(
                    match=[
                        "/wp-admin*", "/wp-login.php", "/wp-cron.php", "/xmlrpc.php", "/wp-json/*", "*/cart/*",
                        "*/checkout/*", "*/my-account/*",
                    ],
                    bypass=True,
                ),
            ),
            (
                # Themes and the core change these files only together with ?ver=, which is part of the key.
                "assets",
                _rule(
                    match=[
                        "/wp-includes/*.css", "/wp-includes/*.js", "/wp-includes/*.woff2", "/wp-content/themes/*.css",
                        "/wp-content/themes/*.js", "/wp-content/plugins/*.css", "/wp-content/plugins/*.js",
                    ],
                    ttl="1d",
                ),
            ),
        ),
        cookies=(
            "wordpress_logged_in_*", "wordpress_sec_*", "wp-postpass_*", "comment_author_*", "wp_woocommerce_session_*",
            "woocommerce_items_in_cart", "woocommerce_cart_hash", "edd_items_in_cart", "PHPSESSID",
        ),
        # WordPress sends no freshness for what everybody sees, and no-cache for what only some do. Long enough to take
        # the load, short enough for a site without a purge plug-in.
        ttl=300.0,
        stale_while_revalidate=60.0,
    ),
    # With $wgUseCdn, MediaWiki sends s-maxage for anonymous pages and `private` for users, so its headers say all there
    # is to say.
    "mediawiki": Preset(
        cookies=("*_session", "*UserID", "*Token"),
        ignored_cookies=("*mwuser-sessionId", "*mwclientpreferences", "mediaWiki.*", "*-ts"),
        stale_while_revalidate=30.0,
    ),
    "drupal": Preset(
        rules=(
            (
                "admin",
                _rule(
                    match=["/admin*", "/user*", "/cron*", "/update.php", "/core/install.php", "/batch*"],
                    bypass=True,
                ),
            ),
        ),
        cookies=("SESS*", "SSESS*", "NO_CACHE"),
        ignored_cookies=("has_js", "Drupal.toolbar.*", "Drupal.tableDrag.*"),
        stale_while_revalidate=30.0,
    ),
    "django": Preset(
        rules=(
            ("admin", _rule(match=["/admin/*"], bypass=True)),
            # ManifestStaticFilesStorage puts twelve hexadecimal digits of the content into the name.
            ("hashed files", _rule(match=["/static/*.????????????.*"], ttl="1y", immutable=True)),
        ),
        # A framework: its views say themselves what may be kept (`cache_control`, `cache_page`).
        cookies=("sessionid", "messages"),
    ),
}  # fmt: skip
"""By the value of `cdn.preset`."""
