"""The pages that people see."""

import secrets
from pathlib import Path
from typing import TypeVar

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    send_from_directory,
    session,
)

from guestbook import sessions
from guestbook.errors import InvalidError
from guestbook.messages import PAGE, Messages
from guestbook.pictures import LIMIT_BYTES, Pictures
from guestbook.users import Users
from guestbook.visits import Visits

blueprint = Blueprint("pages", __name__)
PUBLIC = Path(__file__).parent.parent / "public"
T = TypeVar("T")


def service(kind: type[T]) -> T:
    """The application's one object of a kind."""
    found = current_app.extensions[kind.__name__.lower()]
    assert isinstance(found, kind)
    return found


def wants_json() -> bool:
    """True where the visitor is a program."""
    return "application/json" in request.headers.get("Accept", "")


def page(template: str, title: str, tags: str, **values: object) -> Response:
    """A page that the edges may keep for visitors without a session; the tags say what to purge it by."""
    response = Response(render_template(template, title=title, **values))
    response.headers["Vary"] = "Cookie"
    if sessions.is_present():
        response.headers["Cache-Control"] = "private, no-store"
    else:
        response.headers["Cache-Control"] = "public, max-age=10, stale-while-revalidate=30"
        response.headers["Surrogate-Key"] = tags
    return response


def form(template: str, title: str, error: InvalidError | None = None) -> Response:
    """A page for one visitor, filled with what was typed before."""
    response = Response(
        render_template(template, title=title, error=error, typed=request.form, key=secrets.token_hex(16))
    )
    response.status_code = error.status if error else 200
    response.headers["Cache-Control"] = "private, no-store"
    return response


def see_other(url: str) -> Response:
    """After a form: the page to look at."""
    response = redirect(url, 303, Response)
    response.headers["Cache-Control"] = "no-store"
    assert isinstance(response, Response)
    return response


@blueprint.get("/")
def home() -> Response:
    """The newest messages, or those before one."""
    messages = service(Messages).latest(request.args.get("before", type=int))
    return page(
        "home.html",
        "Guestbook",
        "guestbook messages",
        messages=messages,
        older=messages[-1].id if len(messages) == PAGE else None,
        visits=service(Visits).count(),
    )


@blueprint.get("/messages/<int:number>")
def message(number: int) -> Response:
    """One message."""
    found = service(Messages).find(number)
    if found is None:
        abort(404)
    return page("message.html", f"Message from {found.author}", f"guestbook message-{number}", message=found)


@blueprint.get("/sign")
def sign() -> Response:
    """The form to write with."""
    return form("sign.html", "Sign the guestbook")


@blueprint.post("/messages")
def post() -> Response:
    """Writes a message, once for each key."""
    as_json = wants_json()
    # No other site can make a browser send this header without asking first (CORS preflight), so it proves as much
    # as the token does and lets programs write without a session.
    key = request.headers.get("Idempotency-Key", "")
    if not key:
        sessions.require_token()
        key = request.form.get("idempotency_key", "")
    try:
        picture = uploaded_picture()
        author = session.get("user") or request.form.get("author", "")
        written = service(Messages).add(key, author, request.form.get("body", ""), picture)
    except InvalidError as error:
        if as_json or not sessions.is_present():
            raise
        return form("sign.html", "Sign the guestbook", error)
    if not as_json:
        return see_other(written.url)
    answer = current_app.json.response(
        id=written.id,
        replayed=written.replayed,
        url=written.url,
        server=current_app.extensions["settings"].server,
    )
    answer.status_code = 201
    answer.headers["Location"] = written.url
    answer.headers["Cache-Control"] = "no-store"
    return answer


def uploaded_picture() -> str | None:
    """Keeps the picture of the form, if there is one."""
    file = request.files.get("picture")
    if file is None or not file.filename:
        return None
    if "user" not in session:
        raise InvalidError("Log in to add a picture.", 403)
    return service(Pictures).keep(file.stream.read(LIMIT_BYTES + 1))


@blueprint.get("/login")
def login_form() -> Response:
    """The form to log in with."""
    return form("login.html", "Log in")


@blueprint.post("/login")
def login() -> Response:
    """Logs in; a new name is registered."""
    sessions.require_token()
    try:
        name = service(Users).log_in(request.form.get("name", ""), request.form.get("password", ""))
    except InvalidError as error:
        return form("login.html", "Log in", error)
    sessions.log_in(name)
    return see_other("/")


@blueprint.post("/logout")
def logout() -> Response:
    """Ends the session."""
    sessions.require_token()
    sessions.log_out()
    return see_other("/")


@blueprint.get("/<any(assets,uploads):folder>/<name>")
def file(folder: str, name: str) -> Response:
    """Files, where no balancer serves them first. Their names change with their content."""
    return send_from_directory(PUBLIC / folder, name, max_age=31_536_000)
