"""What machines ask: health, who am I, and pages that take their time."""

import json
import time
from collections.abc import Callable, Iterator

import pymysql
from flask import Blueprint, Response, current_app, request, session

from guestbook import sessions
from guestbook.database import Database
from guestbook.errors import UnavailableError
from guestbook.pages import service
from guestbook.settings import Settings
from guestbook.visits import Visits

blueprint = Blueprint("operations", __name__)


def answer(code: int = 200, /, **values: object) -> Response:
    """JSON that no cache keeps."""
    response = current_app.json.response(**values)
    response.status_code = code
    response.headers["Cache-Control"] = "no-store"
    return response


def number(name: str, default: float, low: float, high: float) -> float:
    """A number from the query, kept in bounds."""
    value = request.args.get(name, default, type=float)
    return max(low, min(high, value)) if value == value else default  # noqa: PLR0124 - "nan" is not itself


@blueprint.get("/visits")
def visits() -> Response:
    """The number of visits."""
    return answer(visits=service(Visits).count())


@blueprint.post("/visits")
def visit() -> Response:
    """One more. Of its own, because an edge's hit never reaches the application."""
    return answer(visits=service(Visits).add())


@blueprint.get("/healthz")
def health() -> Response:
    """200, or 503 and what fails."""
    settings = service(Settings)
    checks = {
        "database": check(lambda: "ok" if service(Database).is_writable() else "read-only"),
        "cache": check(lambda: "ok" if service(Visits).works() else "does not keep values"),
    }
    failing = [name for name, result in checks.items() if result != "ok"]
    return answer(
        503 if failing else 200,
        status="failing" if failing else "ok",
        failing=failing,
        checks=checks,
        server=settings.server,
        release=settings.release,
    )


def check(run: Callable[[], str]) -> str:
    """What a check says. Addresses and accounts belong in the log, not in the answer."""
    try:
        return run()
    except (UnavailableError, pymysql.MySQLError):
        current_app.logger.exception("a check failed")
        return "unreachable"


@blueprint.get("/whoami")
def whoami() -> Response:
    """The request as the application sees it."""
    settings = service(Settings)
    return answer(
        scheme=request.scheme,
        host=request.host,
        client=request.remote_addr,
        request_id=request.headers.get("X-Request-Id", ""),
        session=sessions.is_present(),
        user=session.get("user"),
        server=settings.server,
        release=settings.release,
        language="python",
    )


@blueprint.get("/slow")
def slow() -> Response:
    """Takes its time, at most 30 s."""
    seconds = number("seconds", 1, 0, 30)
    time.sleep(seconds)
    return answer(slept=seconds, server=service(Settings).server)


@blueprint.get("/events")
def events() -> Response:
    """Server-sent events, one each interval."""
    count = int(number("count", 10, 1, 60))
    interval = number("interval", 1, 0.05, 5)
    data = service(Settings).server

    def stream() -> Iterator[str]:
        for n in range(1, count + 1):
            yield f"id: {n}\ndata: {json.dumps({'n': n, 'server': data})}\n\n"
            if n < count:
                time.sleep(interval)
        yield "event: done\ndata: {}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Response(stream(), mimetype="text/event-stream", headers=headers)
