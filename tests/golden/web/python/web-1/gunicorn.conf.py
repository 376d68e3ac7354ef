# gunicorn of web-1, written by Lampstand. README.md of this tier explains every line that is not its default.


def _interface():
    """Which of "asgi" and "wsgi" the build found; without a build, by the usual name of the module."""
    try:
        with open('/srv/releases/r1/.lampstand/interface') as note:
            return note.read().strip()
    except FileNotFoundError:
        return "asgi" if 'shop.wsgi:application'.partition(":")[0].split(".")[-1] == "asgi" else "wsgi"


bind = 'unix:/run/shop/web-1/app.sock'
backlog = 1024
chdir = '/srv/releases/r1'
worker_tmp_dir = '/run/shop/web-1'
control_socket_disable = True
workers = 4
threads = 4
if _interface() == "asgi":
    worker_class = "uvicorn_worker.UvicornWorker"
else:
    worker_class = "gthread" if threads > 1 else "sync"
timeout = 300
graceful_timeout = 30
max_requests = 1000
max_requests_jitter = 100
keepalive = 0
limit_request_line = 0
limit_request_field_size = 32768
forwarded_allow_ips = "*"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
proc_name = 'web-1'
errorlog = "-"
accesslog = None


class _Visitor:
    """Tells a WSGI application who asks: a unix socket has no peer address, so Apache passes it in a header."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        environ["REMOTE_ADDR"] = environ.get("HTTP_X_FORWARDED_FOR", "")
        return self.application(environ, start_response)


def post_worker_init(worker):
    if worker_class != "uvicorn_worker.UvicornWorker":
        worker.wsgi = _Visitor(worker.wsgi)
