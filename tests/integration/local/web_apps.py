"""One tiny application in the three languages, for the tests of the web tier. Each answers:

/                JSON: scheme, client, request id, method, URI, body length, environment
/slow?seconds=N  `slow`, after N seconds
/error           an exception of the language
/session?add=X   PHP: the session's list after adding X
/header?bytes=N  an answer with a header of N bytes
/events          three server-sent events, half a second apart
"""

from pathlib import Path

PHP = r"""<?php
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
$json = function (mixed $value): void { header('Content-Type: application/json'); echo json_encode($value); };
switch ($path) {
case '/slow':
    touch(getenv('HOME') . '/slow');
    usleep((int) ($_GET['seconds'] * 1e6));
    echo 'slow';
    break;
case '/error':
    throw new RuntimeException('this page is broken');
case '/header':
    header('X-Big: ' . str_repeat('x', (int) $_GET['bytes']));
    echo 'big';
    break;
case '/session':
    session_start();
    $_SESSION['list'][] = $_GET['add'];
    $json($_SESSION['list']);
    break;
case '/events':
    header('Content-Type: text/event-stream');
    while (ob_get_level()) ob_end_flush();
    for ($i = 0; $i < 3; $i++) { echo "data: $i\n\n"; flush(); usleep(500000); }
    break;
default:
    $json([
        'scheme' => ($_SERVER['HTTPS'] ?? '') === 'on' ? 'https' : 'http',
        'client' => $_SERVER['REMOTE_ADDR'],
        'request_id' => $_SERVER['HTTP_X_REQUEST_ID'] ?? null,
        'method' => $_SERVER['REQUEST_METHOD'],
        'uri' => $_SERVER['REQUEST_URI'],
        'body' => strlen(file_get_contents('php://input')),
        'authorization' => $_SERVER['HTTP_AUTHORIZATION'] ?? null,
        'forwarded_for' => $_SERVER['HTTP_X_FORWARDED_FOR'] ?? null,
        'server' => $_SERVER,
        'env' => getenv(),
        'ini' => ini_get_all(null, false),
    ]);
}
"""

WSGI = r"""
import json, os, time
from pathlib import Path
from urllib.parse import parse_qs

if seconds := os.environ.get("SLOW_START"):
    time.sleep(float(seconds))
if os.environ.get("BROKEN_START"):
    raise RuntimeError("this application cannot start")

def application(environ, start_response):
    path, query = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
    kind, headers, body = "text/plain", [], None
    if path == "/slow":
        Path(os.environ["HOME"], "slow").touch()
        time.sleep(float(query["seconds"][0]))
        body = [b"slow"]
    elif path == "/error":
        raise RuntimeError("this page is broken")
    elif path == "/header":
        headers, body = [("X-Big", "x" * int(query["bytes"][0]))], [b"big"]
    elif path == "/events":
        def events():
            for i in range(3):
                yield f"data: {i}\n\n".encode()
                time.sleep(0.5)
        kind, body = "text/event-stream", events()
    else:
        kind = "application/json"
        body = [json.dumps({
            "scheme": environ["wsgi.url_scheme"], "client": environ["REMOTE_ADDR"],
            "request_id": environ.get("HTTP_X_REQUEST_ID"), "method": environ["REQUEST_METHOD"],
            "uri": environ.get("RAW_URI"), "body": len(environ["wsgi.input"].read()),
            "authorization": environ.get("HTTP_AUTHORIZATION"), "forwarded_for": environ.get("HTTP_X_FORWARDED_FOR"),
            "env": dict(os.environ)
        }).encode()]
    start_response("200 OK", [("Content-Type", kind), *headers])
    return body
"""

ASGI = r"""
import asyncio, json, os
from urllib.parse import parse_qs

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "echo " + message["text"]})
        return
    path, query = scope["path"], parse_qs(scope["query_string"].decode())
    headers = {k.decode(): v.decode() for k, v in scope["headers"]}
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    kind, extra, parts = "text/plain", [], None
    if path == "/slow":
        open(os.environ["HOME"] + "/slow", "w").close()
        await asyncio.sleep(float(query["seconds"][0]))
        parts = [b"slow"]
    elif path == "/error":
        raise RuntimeError("this page is broken")
    elif path == "/header":
        extra, parts = [(b"x-big", b"x" * int(query["bytes"][0]))], [b"big"]
    elif path == "/events":
        kind, parts = "text/event-stream", [f"data: {i}\n\n".encode() for i in range(3)]
    else:
        kind = "application/json"
        parts = [json.dumps({
            "scheme": scope["scheme"], "client": scope["client"][0], "request_id": headers.get("x-request-id"),
            "method": scope["method"], "uri": scope["raw_path"].decode(), "body": size,
            "authorization": headers.get("authorization"), "forwarded_for": headers.get("x-forwarded-for"),
            "env": dict(os.environ)
        }).encode()]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode()), *extra]})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        if path == "/events":
            await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": b""})
"""

PSGI = r"""
use strict; use warnings;
use JSON::PP ();
use Time::HiRes ();
use Plack::Request ();

Time::HiRes::sleep($ENV{SLOW_START}) if $ENV{SLOW_START};
die "this application cannot start\n" if $ENV{BROKEN_START};

sub {
    my $env = shift;
    my $request = Plack::Request->new($env);
    my $path = $env->{PATH_INFO};
    if ($path eq '/slow') {
        open my $mark, '>', "$ENV{HOME}/slow" or die $!;
        Time::HiRes::sleep($request->param('seconds'));
        return [200, ['Content-Type' => 'text/plain'], ['slow']];
    }
    die "this page is broken\n" if $path eq '/error';
    if ($path eq '/header') {
        return [200, ['Content-Type' => 'text/plain', 'X-Big' => 'x' x $request->param('bytes')], ['big']];
    }
    if ($path eq '/events') {
        return sub {
            my $writer = shift->([200, ['Content-Type' => 'text/event-stream']]);
            for (0 .. 2) { $writer->write("data: $_\n\n"); Time::HiRes::sleep(0.5) }
            $writer->close;
        };
    }
    my %answer = (
        scheme => $env->{'psgi.url_scheme'}, client => $env->{REMOTE_ADDR}, request_id => $env->{HTTP_X_REQUEST_ID},
        method => $env->{REQUEST_METHOD}, uri => $env->{REQUEST_URI}, body => length($request->content),
        authorization => $env->{HTTP_AUTHORIZATION}, forwarded_for => $env->{HTTP_X_FORWARDED_FOR}, env => {%ENV},
    );
    return [200, ['Content-Type' => 'application/json'], [JSON::PP->new->latin1->encode(\%answer)]];
};
"""

APPLICATIONS: dict[str, tuple[dict[str, object], str, str]] = {
    "php": ({"runtime": "php", "root": "public"}, "public/index.php", PHP),
    "wsgi": ({"runtime": "python", "entry": "shop.wsgi:application"}, "shop/wsgi.py", WSGI),
    "asgi": ({"runtime": "python", "entry": "main:app"}, "main.py", ASGI),
    "psgi": ({"runtime": "perl", "entry": "app.psgi"}, "app.psgi", PSGI),
}
"""Name -> keys of `app` in the site file, path of the source, source."""


def write_application(name: str, folder: Path) -> dict[str, object]:
    """Writes the application into a folder and returns its `app` section."""
    app, path, source = APPLICATIONS[name]
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source, "utf-8")
    return dict(app)
