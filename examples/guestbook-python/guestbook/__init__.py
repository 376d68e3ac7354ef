"""A guestbook: a small real application on Flask, MariaDB and Redis."""

import json
import logging
from pathlib import Path
from zlib import crc32

from flask import Flask, Response, render_template, request, session
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.middleware.proxy_fix import ProxyFix

from guestbook import operations, pages
from guestbook.database import Database
from guestbook.errors import InvalidError, UnavailableError
from guestbook.messages import Messages
from guestbook.pictures import Pictures
from guestbook.sessions import RedisSessions, token
from guestbook.settings import Settings
from guestbook.users import Users
from guestbook.visits import Visits

ROOT = Path(__file__).parent.parent
REQUEST_LIMIT_BYTES = 3 * 1024 * 1024


def create_app(settings: Settings) -> Flask:
    """The application, wired to the engines that the settings name. Connects to none of them yet."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = REQUEST_LIMIT_BYTES
    app.json.ensure_ascii = False
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    database = Database(settings.database_url, settings.database_replica_url)
    app.extensions |= {
        "settings": settings,
        "database": database,
        "messages": Messages(database),
        "users": Users(database),
        "pictures": Pictures(ROOT / "public" / "uploads"),
        "visits": Visits(settings.redis_url),
    }
    app.session_interface = RedisSessions(settings.session_redis_url)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(operations.blueprint)
    # Reached only through its web server, which writes these headers: believe its (the last) entry.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)

    manifest: dict[str, str] = json.loads((ROOT / "public" / "assets" / "manifest.json").read_text())

    @app.context_processor
    def in_every_template() -> dict[str, object]:
        return {
            "asset": lambda name: f"/assets/{manifest[name]}",
            "hue": lambda name: crc32(name.encode()) % 6,
            "user": session.get("user"),
            "token": token,
            "server": settings.server,
            "release": settings.release,
        }

    @app.after_request
    def describe(response: Response) -> Response:
        response.headers["X-Served-By"] = settings.server
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.mimetype == "text/html":
            response.headers["Content-Security-Policy"] = (
                "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            )
            response.headers["Referrer-Policy"] = "same-origin"
        return response

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        texts = {404: "There is no such page.", 405: "This page does not do that."}
        if error.code == 413:
            texts[413] = "This is too much at once: a picture has at most 2 MiB."
            read_the_rest()
        response = failure(error.code or 500, texts.get(error.code or 500, "This request makes no sense."))
        if error.code == 405:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or []))
        return response

    @app.errorhandler(InvalidError)
    def invalid(error: InvalidError) -> Response:
        return failure(error.status, str(error))

    @app.errorhandler(UnavailableError)
    def unavailable(error: UnavailableError) -> Response:
        app.logger.error("%s", error)
        response = failure(503, "We cannot reach our books just now. Please try again in a moment.")
        response.headers["Retry-After"] = "2"
        return response

    @app.errorhandler(InternalServerError)
    def internal(error: InternalServerError) -> Response:
        if isinstance(
            error.original_exception, UnavailableError
        ):  # met after the page was made: saving the session
            session.clear()
            return unavailable(error.original_exception)
        return failure(500, "Something went wrong on our side.")

    return app


def failure(status: int, text: str) -> Response:
    """An error, for people or for programs, that no cache keeps."""
    if pages.wants_json():
        response = Response(json.dumps({"error": text}) + "\n", mimetype="application/json")
    else:
        response = Response(render_template("error.html", title="Sorry", status=status, text=text))
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def read_the_rest() -> None:
    """Takes what is still being sent, within reason: whoever is interrupted while sending never reads the answer."""
    for _ in range(16 * 1024):
        if not request.environ["wsgi.input"].read(1024):
            break
