"""Flask's session, kept in Redis. The cookie holds nothing but an id that cannot be guessed."""

import hmac
import json
import logging
import secrets
from typing import cast

from flask import Flask, Request, Response, request, session
from flask.sessions import SessionInterface, SessionMixin
from redis import RedisError
from werkzeug.datastructures import CallbackDict

from guestbook.errors import InvalidError, UnavailableError
from guestbook.visits import redis_from

LIFETIME_SECONDS = 7 * 86400


class RedisSession(CallbackDict[str, str], SessionMixin):
    """A session that knows its id (None: not kept yet) and whether it was changed."""

    def __init__(self, content: dict[str, str], sid: str | None) -> None:
        super().__init__(content, lambda self: setattr(self, "modified", True))
        self.sid = sid
        self.modified = False
        self.retired: str | None = None

    def renew(self) -> None:
        """Forgets everything and takes a new id: one that somebody planted before the login is worth nothing."""
        self.clear()
        self.retired, self.sid = self.sid or self.retired, None


class RedisSessions(SessionInterface):
    """Opens a session only for visitors who bring its cookie, keeps it only when something is in it.

    So everybody else's pages carry no cookie and stay cacheable.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis_from(url)

    def open_session(self, app: Flask, request: Request) -> RedisSession:
        """The visitor's session; an empty one for an unknown id, which is never adopted."""
        sid = request.cookies.get(self.get_cookie_name(app))
        if not sid:
            return RedisSession({}, None)
        try:
            content = self._redis.get(f"session:{sid}")
        except RedisError:
            logging.getLogger(__name__).exception("the session store does not answer")
            return RedisSession({}, None)  # reads go on as if logged out
        return RedisSession(json.loads(content), sid) if content else RedisSession({}, None)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Keeps what was changed; what is empty is forgotten, with its cookie."""
        assert isinstance(session, RedisSession)
        if not session.modified:
            return
        name = self.get_cookie_name(app)
        try:
            for old in {session.retired, session.sid if not session else None} - {None}:
                self._redis.delete(f"session:{old}")
            if not session:
                response.delete_cookie(name, httponly=True, samesite="Lax", secure=request.is_secure)
                return
            session.sid = session.sid or secrets.token_urlsafe(32)
            self._redis.set(f"session:{session.sid}", json.dumps(dict(session)), ex=LIFETIME_SECONDS)
        except RedisError as error:
            raise UnavailableError(f"sessions: {error}") from error
        response.set_cookie(name, session.sid, httponly=True, samesite="Lax", secure=request.is_secure)


def is_present() -> bool:
    """True for a visitor who brings a session, good or not."""
    return "session" in request.cookies


def token() -> str:
    """The token that this visitor's forms carry."""
    if "token" not in session:
        session["token"] = secrets.token_hex(16)
    return session["token"]


def require_token() -> None:
    """Refuses a form that was not made for this visitor."""
    known = session.get("token", "")
    if not known or not hmac.compare_digest(known.encode(), request.form.get("csrf", "").encode()):
        raise InvalidError("This form is too old. Go back, load it again and send it once more.", 403)


def log_in(name: str) -> None:
    """From now on the session is this user's."""
    cast(RedisSession, session).renew()
    session["user"] = name
    token()


def log_out() -> None:
    """The session ends."""
    session.clear()
