vcl 4.1;

# edge-iad of the site shop. Written by Lampstand: changes are lost; see the README of the tier `edge`.

import cookie;
import directors;
import header;
import std;
import str;
import var;
import xkey;

acl purgers -pedantic {
    "192.0.2.7"/32;
    "10.0.0.0"/8;
}

acl trusted -pedantic {
    "198.51.100.0"/24;
    "2001:db8::"/32;
}

# --- where answers come from -----------------------------------------------------------------------------------

probe alive {
    .request =
        "GET /.lampstand/health HTTP/1.1"
        "Host: localhost"
        "User-Agent: lampstand-edge"
        "Connection: close";
    .interval = 1s;
    .timeout = 1s;
    .window = 3;
    .threshold = 2;
    # Well until proven otherwise: an edge that starts with its balancers must not answer 503 for a second.
    .initial = 2;
}

backend shield {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 65.000s;
    .between_bytes_timeout = 65.000s;
    .probe = alive;
}

backend balancer_1 {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 65.000s;
    .between_bytes_timeout = 65.000s;
    .probe = alive;
}

backend balancer_1_anyway {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 5.000s;
    .between_bytes_timeout = 65.000s;
}

backend balancer_1_unsafe {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 65.000s;
    .between_bytes_timeout = 65.000s;
    .probe = alive;
}

backend balancer_2 {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 65.000s;
    .between_bytes_timeout = 65.000s;
    .probe = alive;
}

backend balancer_2_anyway {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 5.000s;
    .between_bytes_timeout = 65.000s;
}

backend balancer_2_unsafe {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2.000s;
    .first_byte_timeout = 65.000s;
    .between_bytes_timeout = 65.000s;
    .probe = alive;
}

sub vcl_init {
    new origin = directors.round_robin();
    origin.add_backend(balancer_1);
    origin.add_backend(balancer_2);
    # Requests that change something: their port keeps no connection open, so none of them is lost to a closing one.
    new unsafe = directors.round_robin();
    unsafe.add_backend(balancer_1_unsafe);
    unsafe.add_backend(balancer_2_unsafe);
    # When no probe is answered a request is tried all the same, with less patience: a probe can be wrong.
    new anyway = directors.round_robin();
    anyway.add_backend(balancer_1_anyway);
    anyway.add_backend(balancer_2_anyway);
    # The shield first; when it does not answer, the balancers themselves.
    new nearest = directors.fallback();
    nearest.add_backend(shield);
    nearest.add_backend(origin.backend());
}

sub edge_origin {
    set req.backend_hint = nearest.backend();
    if (!std.healthy(req.backend_hint)) {
        set req.http.x-edge-down = "1";
        set req.backend_hint = anyway.backend();
    }
}

sub edge_balancers {
    set req.backend_hint = origin.backend();
    if (!std.healthy(req.backend_hint)) {
        set req.backend_hint = anyway.backend();
    }
}

sub edge_unsafe {
    set req.backend_hint = unsafe.backend();
    if (!std.healthy(req.backend_hint)) {
        set req.backend_hint = anyway.backend();
    }
}

# --- the rules of the site: the first that matches is the only one ----------------------------------------------

sub site_rule {
    if (req.http.x-edge-path ~ "^(?:/assets/.*)$") {
        # cdn.rules[0]
        set req.http.x-edge-rule = "0";
        if (!req.http.x-edge-bypass && (req.method == "GET" || req.method == "HEAD")) {
            unset req.http.Cookie;
        }
    } else if (req.http.x-edge-path ~ "^(?:/api/.*|/feed.)$" && req.method ~ "^(?:GET|POST)$") {
        # cdn.rules[1]
        set req.http.x-edge-rule = "1";
        set req.http.x-edge-bypass = "1";
    } else if (req.http.x-edge-path ~ "^(?:/old/.*)$") {
        # cdn.rules[2]
        set req.http.x-edge-rule = "2";
        set req.http.x-edge-location = regsub(req.http.x-edge-path, "^/old/(.*)$", "/new/\1");
        return (synth(302));
    } else if (req.http.x-edge-path ~ "^(?:/shop/.*)$") {
        # cdn.rules[3]
        set req.http.x-edge-rule = "3";
        cookie.parse(req.http.Cookie);
        set req.http.x-edge-vary = req.http.x-edge-vary + "c:currency=" + cookie.get("currency") + ";";
        set req.http.x-edge-vary = req.http.x-edge-vary + "h:X-Device=" + req.http.X-Device + ";";
        if (!req.http.x-edge-bypass && (req.method == "GET" || req.method == "HEAD")) {
            cookie.parse(req.http.Cookie);
            cookie.keep_re("^(?:currency)$");
            set req.http.Cookie = regsub(cookie.get_string(), ";\s*$", "");
            if (req.http.Cookie == "") {
                unset req.http.Cookie;
            }
        }
    } else if (req.http.x-edge-path ~ "^(?:/search)$") {
        # cdn.rules[4]
        set req.http.x-edge-rule = "4";
    } else if (req.http.x-edge-path ~ "^(?:/wp\-admin.*|/wp\-login\.php|/wp\-cron\.php|/xmlrpc\.php|/wp\-json/.*|.*/cart/.*|.*/checkout/.*|.*/my\-account/.*)$") {
        # wordpress: admin
        set req.http.x-edge-rule = "5";
        set req.http.x-edge-bypass = "1";
    } else if (req.http.x-edge-path ~ "^(?:/wp\-includes/.*\.css|/wp\-includes/.*\.js|/wp\-includes/.*\.woff2|/wp\-content/themes/.*\.css|/wp\-content/themes/.*\.js|/wp\-content/plugins/.*\.css|/wp\-content/plugins/.*\.js)$") {
        # wordpress: assets
        set req.http.x-edge-rule = "6";
        if (!req.http.x-edge-bypass && (req.method == "GET" || req.method == "HEAD")) {
            unset req.http.Cookie;
        }
    } else if (req.http.x-edge-path ~ "\.(?:css|js|mjs|map|webmanifest|txt|xml|pdf|wasm|png|jpg|jpeg|gif|webp|avif|svg|ico|bmp|woff|woff2|ttf|otf|eot|mp3|mp4|webm|ogg|ogv|wav)$") {
        # static files
        set req.http.x-edge-rule = "7";
    } else if (true) {
        # wordpress: pages
        set req.http.x-edge-rule = "8";
        if (req.http.Cookie ~ "(?:^|;)[ ]*(?:wordpress_logged_in_.*|wordpress_sec_.*|wp\-postpass_.*|comment_author_.*|wp_woocommerce_session_.*|woocommerce_items_in_cart|woocommerce_cart_hash|edd_items_in_cart|PHPSESSID)=") {
            set req.http.x-edge-bypass = "1";
        }
        if (!req.http.x-edge-bypass && (req.method == "GET" || req.method == "HEAD")) {
            unset req.http.Cookie;
        }
    }
}

sub site_rule_fetched {
    if (var.get("rule") == "0") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
        var.set("share", "1");
        if (beresp.status == 200 || beresp.status == 203 || beresp.status == 301 || beresp.status == 308) {
            var.set_int("lifetime", 31536000);
        }
        var.set("tags", " assets");
    }
    if (var.get("rule") == "1") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
    }
    if (var.get("rule") == "2") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
    }
    if (var.get("rule") == "3") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
        var.set("share", "1");
        if (beresp.status == 200 || beresp.status == 203 || beresp.status == 301 || beresp.status == 308) {
            var.set_int("lifetime", 3600);
        }
    }
    if (var.get("rule") == "4") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
    }
    if (var.get("rule") == "5") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
    }
    if (var.get("rule") == "6") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
        var.set("share", "1");
        if (beresp.status == 200 || beresp.status == 203 || beresp.status == 301 || beresp.status == 308) {
            var.set_int("lifetime", 86400);
        }
    }
    if (var.get("rule") == "7") {
        var.set_int("swr", 0);
        var.set_int("sie", 86400);
        var.set("compress", "1");
        var.set("tags", " static");
    }
    if (var.get("rule") == "8") {
        var.set_int("swr", 60);
        var.set_int("sie", 86400);
        var.set("compress", "1");
        var.set("share", "1");
        if (beresp.status == 200 || beresp.status == 203 || beresp.status == 301 || beresp.status == 308) {
            var.set_int("lifetime", 300);
        }
    }
}

sub site_rule_delivered {
    if (req.http.x-edge-rule == "0") {
        if (resp.status < 400 && resp.http.Cache-Control !~ "(?i)no-store|private" && !resp.http.Set-Cookie) {
            if (resp.http.Cache-Control !~ "(?i)max-age=") {
                set resp.http.Cache-Control = "public, max-age=31536000";
            }
            if (resp.http.Cache-Control !~ "(?i)immutable") {
                set resp.http.Cache-Control = resp.http.Cache-Control + ", immutable";
            }
        }
    }
    if (req.http.x-edge-rule == "3") {
        header.append(resp.http.Vary, "X-Device");
        header.append(resp.http.Vary, "Cookie");
    }
    if (req.http.x-edge-rule == "4") {
        set resp.http.X-Frame-Options = {"D"E}N""} + "}Y";
    }
}

# --- the request ----------------------------------------------------------------------------------------------

sub vcl_recv {
    if (req.restarts == 0) {
        call edge_forget;
        call edge_limits;
        call edge_visitor;
        call edge_own_paths;
        call edge_guard;
        call edge_normalise;
        call edge_key;
        call edge_encoding;
        call edge_credentials;
    } elseif (req.http.x-edge-mode == "fresh") {
        # Only a fresh answer will do: the stored one is too old to be given without asking.
        set req.grace = 0s;
    } elseif (req.http.x-edge-mode == "stale") {
        # It failed, and the stored one may be given after all.
        set req.grace = 10y;
    }
    if (req.method == "OPTIONS") {
        call edge_balancers;
        set req.http.x-edge-forward = "method";
        return (pass);
    }
    if (req.method != "GET" && req.method != "HEAD") {
        call edge_unsafe;
        set req.http.x-edge-forward = "method";
        return (pass);
    }
    if (req.http.Upgrade ~ "(?i)^websocket$" || req.http.x-edge-mode == "large") {
        call edge_unsafe;
        return (pipe);
    }
    if (req.http.x-edge-bypass || req.http.Accept ~ "^(?i)text/event-stream") {
        call edge_balancers;
        set req.http.x-edge-forward = "bypass";
        return (pass);
    }
    call edge_origin;
    set req.hash_ignore_busy = true;
    return (hash);
}

# What only this file may set.
sub edge_forget {
    unset req.http.x-edge-rule;
    unset req.http.x-edge-path;
    unset req.http.x-edge-query;
    unset req.http.x-edge-key;
    unset req.http.x-edge-vary;
    unset req.http.x-edge-bypass;
    unset req.http.x-edge-forward;
    unset req.http.x-edge-mode;
    unset req.http.x-edge-have-stale;
    unset req.http.x-edge-served;
    unset req.http.x-edge-credentials;
    unset req.http.x-edge-purged;
    unset req.http.x-edge-location;
    unset req.http.x-edge-proto;
    unset req.http.x-edge-peer;
    unset req.http.x-edge-client;
    unset req.http.x-edge-down;
    unset req.http.x-edge-br;
    unset req.http.x-edge-url;
    # Unkeyed headers by which frameworks let a request name another host, path or method.
    unset req.http.Proxy;
    unset req.http.X-Original-URL;
    unset req.http.X-Rewrite-URL;
    unset req.http.X-Host;
    unset req.http.X-Original-Host;
    unset req.http.X-Forwarded-Server;
    unset req.http.X-Forwarded-Scheme;
    unset req.http.X-Forwarded-Port;
    unset req.http.X-Forwarded-Prefix;
    unset req.http.X-Forwarded-Path;
    unset req.http.X-Forwarded-Ssl;
    unset req.http.X-Url-Scheme;
    unset req.http.Front-End-Https;
    if (req.method == "GET" || req.method == "HEAD") {
        unset req.http.X-HTTP-Method-Override;
        unset req.http.X-HTTP-Method;
        unset req.http.X-Method-Override;
    }
}

sub edge_limits {
    if (str.count(req.url) > 8192) {
        return (synth(414));
    }
    if (req.method == "TRACE" || req.method == "CONNECT" || req.method == "PRI" || req.method == "TRACK") {
        return (synth(405));
    }
    if (req.url == "*" && req.method != "OPTIONS") {
        return (synth(400));
    }
    if (!req.http.Host && req.proto != "HTTP/1.0") {
        return (synth(400));
    }
    if (req.http.Host ~ "[^0-9A-Za-z.:\[\]_-]") {
        return (synth(400));
    }
}

# Who asks, and by which way (RFC 7239, X-Forwarded-*): what a visitor says of itself is not believed.
sub edge_visitor {
    if (req.http.X-Request-Id !~ "^[0-9A-Za-z._-]{8,128}$") {
        set req.http.X-Request-Id = server.identity + "-" + std.time2integer(now, 0) + "-" + req.xid;
    }
    set req.http.x-edge-proto = "http";
    set req.http.x-edge-client = client.ip;
    if (local.socket == "shield") {
        set req.http.x-edge-peer = "1";
    }
    if (local.socket == "shield" || local.socket == "proxy") {
        # Another edge, or the visitors' entry: they say the truth. Varnish has added the address of whoever asks.
        set req.http.X-Forwarded-For = regsub(req.http.X-Forwarded-For, ",[^,]*$", "");
        set req.http.x-edge-client = regsub(req.http.X-Forwarded-For, "^.*,\s*", "");
        if (req.http.X-Forwarded-Proto == "https") {
            set req.http.x-edge-proto = "https";
        }
    } elseif (client.ip ~ trusted) {
        set req.http.x-edge-client = regsub(regsub(req.http.X-Forwarded-For, ",[^,]*$", ""), "^.*,\s*", "");
        if (req.http.X-Forwarded-Proto == "https") {
            set req.http.x-edge-proto = "https";
        }
    } else {
        set req.http.X-Forwarded-For = client.ip;
    }
    set req.http.X-Forwarded-Proto = req.http.x-edge-proto;
    set req.http.X-Forwarded-Host = req.http.Host;
    set req.http.Forwarded = "for=" + req.http.x-edge-client + ";proto=" + req.http.x-edge-proto +
        {";host=""} + req.http.Host + {"""};
    if (req.http.x-edge-client ~ ":") {
        # An IPv6 address is written in brackets and quotation marks (RFC 7239 section 6).
        set req.http.Forwarded = regsub(req.http.Forwarded, "^for=([^;]*)", {"for="[\1]""});
    }
}

sub edge_own_paths {
    if (req.method == "PURGE" || req.method == "BAN") {
        call edge_normalise;
        call edge_purge;
    }
    unset req.http.X-Purge-Token;
    if (req.url ~ "^/\.lampstand(/|$)") {
        if (req.url == "/.lampstand/edge" && (req.method == "GET" || req.method == "HEAD")) {
            return (synth(10200, "OK"));
        }
        return (synth(404));
    }
}

sub edge_normalise {
    if (req.http.Host ~ "[A-Z]") {
        set req.http.Host = req.http.Host.lower();
    }
    if (req.http.Host ~ "(?:\.|:80|:443)$") {
        if (req.http.x-edge-proto == "https") {
            set req.http.Host = regsub(req.http.Host, "\.?(:443)?$", "");
        } else {
            set req.http.Host = regsub(req.http.Host, "\.?(:80)?$", "");
        }
    }
    if (req.url ~ "#") {
        set req.url = regsub(req.url, "#.*$", "");
    }
    # Several lines of one list are one list (RFC 9110 section 5.3), also to Vary.
    if (req.http.Accept) {
        std.collect(req.http.Accept);
        set req.http.Accept = regsuball(regsuball(req.http.Accept, "\s+", ""), ",+", ",");
        if (req.http.Accept == "") {
            unset req.http.Accept;
        }
    }
    if (req.http.Accept-Language) {
        std.collect(req.http.Accept-Language);
        set req.http.Accept-Language = regsuball(regsuball(req.http.Accept-Language, "\s+", ""), ",+", ",").lower();
        if (req.http.Accept-Language == "") {
            unset req.http.Accept-Language;
        }
    }
    if (req.http.Accept-Charset) {
        std.collect(req.http.Accept-Charset);
    }
    if (req.http.Cache-Control) {
        std.collect(req.http.Cache-Control);
    }
    if (req.http.If-None-Match) {
        std.collect(req.http.If-None-Match);
    }
    # Cookies that only scripts of statistics read never make a request somebody's own.
    if (req.http.Cookie) {
        std.collect(req.http.Cookie, "; ");
        cookie.parse(req.http.Cookie);
        cookie.filter_re("^(_ga|_gid|_gat|_gcl_|_fbp|_fbc|__utm|_pk_|_hj|__gads|__cf)");
        set req.http.Cookie = regsub(cookie.get_string(), ";\s*$", "");
        if (req.http.Cookie == "") {
            unset req.http.Cookie;
        }
    }
}

# The key: sorted, unless a name occurs twice (then order has a meaning) or there are very many.
sub edge_key {
    if (req.url !~ "\?") {
        set req.http.x-edge-path = req.url;
        call site_rule;
        set req.http.x-edge-key = req.url;
        return;
    }
    set req.http.x-edge-path = regsub(req.url, "\?.*$", "");
    call site_rule;
    set req.http.x-edge-query = "&" + regsub(req.url, "^[^?]*\??", "");
    call edge_query_filter;
    set req.http.x-edge-query = regsuball(req.http.x-edge-query, "&(?=&|$)", "");
    set req.url = req.http.x-edge-path + regsub(req.http.x-edge-query, "^&", "?");
    if (req.http.x-edge-query ~ "^(&[^&]*+){33}" ||
        req.http.x-edge-query ~ "&([^=&]*+)(?:=[^&]*+)?(?:&[^&]*+)*?&\1(?:=|&|$)") {
        set req.http.x-edge-key = req.url;
    } else {
        # querysort() takes `a` and `ab` for equal, so each parameter ends with a character that no URL holds.
        set req.http.x-edge-key = regsuball(std.querysort(regsuball(req.url, "&", " &") + " "), " ", "");
    }
    unset req.http.x-edge-query;
}

sub edge_query_filter {
    if (req.http.x-edge-rule ~ "^(0|1|2|3|5|6|7|8)$") {
        set req.http.x-edge-query = regsuball(req.http.x-edge-query, "&(?:utm_[^=&]*|gclid|fbclid|msclkid|mc_cid|mc_eid)(?:=[^&]*)?(?=&|$)", "");
    }
    if (req.http.x-edge-rule ~ "^(4)$") {
        set req.http.x-edge-query = regsuball(req.http.x-edge-query, "&(?!(?:q)(?:=|&|$))[^&]*", "");
    }
}

# Who may ask, and for how much: what the balancers say of `balancer.allow`, `deny`, `rate_limit` and `body_limit`, said here
# too, because what an edge answers from its memory never reaches them. Of a visitor whom another edge sends all is said.
sub edge_guard {
    if (req.http.x-edge-peer) {
        return;
    }
    if (req.http.Content-Length ~ "^[0-9]{16,}$" || std.integer(req.http.Content-Length, 0) > 67108864) {
        return (synth(413));
    }
}

# Varnish asks for gzip and gives it, or plain text, to everybody. Files that may lie there compressed with brotli are kept a
# second time for those who take it (RFC 9110 section 12.5.3).
sub edge_encoding {
    if (req.http.x-edge-path ~ "\.(?:css|js|mjs|json|map|svg|xml|txt|html|wasm|ttf|otf)$" && req.http.Accept-Encoding ~ "(?i)(?:^|[\s,])br(?:$|[\s,;])" &&
        req.http.Accept-Encoding !~ "(?i)(?:^|[\s,])br\s*;\s*q=0(?:\.0*)?(?:$|[\s,])") {
        set req.http.x-edge-br = "1";
        set req.http.x-edge-vary = req.http.x-edge-vary + "br;";
    }
}

# Cookies and Authorization are credentials: their bearer gets a shared answer only where it is meant to be shared.
sub edge_credentials {
    if (req.http.Authorization) {
        set req.http.x-edge-credentials = "authorization";
    }
    if (req.http.Cookie) {
        set req.http.x-edge-credentials = req.http.x-edge-credentials + "cookie";
    }
}

sub vcl_hash {
    hash_data(req.http.x-edge-proto);
    hash_data(req.http.Host);
    hash_data(req.http.x-edge-key);
    if (req.http.x-edge-vary) {
        hash_data(req.http.x-edge-vary);
    }
    return (lookup);
}

sub vcl_hit {
    if (obj.http.x-edge-large) {
        set req.http.x-edge-mode = "large";
        return (restart);
    }
    if ((req.http.x-edge-credentials ~ "cookie" && obj.http.x-edge-shared !~ "cookie") ||
        (req.http.x-edge-credentials ~ "authorization" && obj.http.x-edge-shared !~ "authorization")) {
        set req.http.x-edge-forward = "request";
        return (pass);
    }
    if (obj.ttl >= 0s) {
        return (deliver);
    }
    set req.http.x-edge-served = "stale";
    if (req.http.x-edge-mode == "stale") {
        return (deliver);
    }
    # RFC 5861 section 3; and what a soft purge has made old before its time is given once more while it is fetched.
    # To another edge an old answer would look like a new one, so it gets none.
    if (!req.http.x-edge-peer && (0s - obj.ttl <= std.duration(obj.http.x-edge-swr + "s", 0s) ||
        std.integer(obj.http.x-edge-until, 0) > std.time2integer(now, 0))) {
        return (deliver);
    }
    unset req.http.x-edge-served;
    if (0s - obj.ttl <= std.duration(obj.http.x-edge-sie + "s", 0s)) {
        if (req.http.x-edge-down) {
            # Nobody waits for an origin whose probes fail; it is asked all the same, behind the visitor's back.
            set req.http.x-edge-served = "stale";
            return (deliver);
        }
        set req.http.x-edge-have-stale = "1";
    }
    set req.http.x-edge-mode = "fresh";
    return (restart);
}

sub vcl_miss {
    # RFC 9111 section 5.2.1.7. The other directives of a request are wishes, and everybody's wishes are an attack.
    if (req.http.Cache-Control ~ "(?i)(?:^|,)\s*only-if-cached\s*(?:,|$)") {
        return (synth(504));
    }
    return (fetch);
}

sub vcl_pipe {
    if (req.http.Upgrade) {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = "upgrade";
    } else {
        set bereq.http.Connection = "close";
    }
    call edge_hide;
    return (pipe);
}

sub vcl_backend_fetch {
    # The answer's code cannot see what is not sent, and nothing of ours is sent.
    if (bereq.retries == 0) {
        var.set_real("begun", std.time2real(now, 0.0));
        var.set("rule", bereq.http.x-edge-rule);
        var.set("have-stale", bereq.http.x-edge-have-stale);
        var.set("mode", bereq.http.x-edge-mode);
        var.set("credentials", bereq.http.x-edge-credentials);
        var.set("key", bereq.http.x-edge-key);
    }
    if (var.get("have-stale") == "1" && var.get("mode") == "fresh") {
        # An old answer is at hand: no visitor waits long for an origin that hangs. The fetch behind the visitor's back,
        # which follows when this one fails, has all the time of the site.
        set bereq.first_byte_timeout = 2.000s;
    }
    if (bereq.http.x-edge-br) {
        set bereq.http.Accept-Encoding = "br, gzip";
    }
    call edge_hide;
    if (bereq.method == "GET" || bereq.method == "HEAD") {
        unset bereq.body;
    } elseif (bereq.method != "OPTIONS") {
        set bereq.http.Connection = "close";
    }
    return (fetch);
}

sub edge_hide {
    unset bereq.http.x-edge-rule;
    unset bereq.http.x-edge-path;
    unset bereq.http.x-edge-key;
    unset bereq.http.x-edge-vary;
    unset bereq.http.x-edge-bypass;
    unset bereq.http.x-edge-forward;
    unset bereq.http.x-edge-mode;
    unset bereq.http.x-edge-have-stale;
    unset bereq.http.x-edge-served;
    unset bereq.http.x-edge-credentials;
    unset bereq.http.x-edge-proto;
    unset bereq.http.x-edge-peer;
    unset bereq.http.x-edge-client;
    unset bereq.http.x-edge-down;
    unset bereq.http.x-edge-br;
}

# --- purge ---------------------------------------------------------------------------------------------------------

# Whatever the host: one site, one application.
sub edge_purge {
    if ((!req.http.X-Purge-Token || req.http.X-Purge-Token != std.fileread("/srv/instances/edge-iad/etc/purge-token")) && client.ip !~ purgers) {
        return (synth(403));
    }
    call edge_key;
    std.collect(req.http.xkey, " ");
    # Tags: ours and Fastly's, vmod_xkey's, Drupal's, and those of Proxy Cache Purge, which come as a pattern of whole tags.
    if (req.http.X-Cache-Tags-Pattern) {
        set req.http.Cache-Tags = req.http.Cache-Tags + " " + regsuball(req.http.X-Cache-Tags-Pattern, "\|", " ");
    }
    set req.http.x-edge-key = regsuball(req.http.x-edge-key, ",", "%2C");
    if (req.http.Surrogate-Key || req.http.Cache-Tag || req.http.Cache-Tags || req.http.Purge-Cache-Tags ||
        req.http.xkey || req.http.xkey-purge || req.http.xkey-softpurge) {
        if (req.http.xkey-softpurge) {
            set req.http.X-Purge-Mode = "soft";
        }
        set req.http.x-edge-key = regsuball(regsuball(req.http.Surrogate-Key + " " + req.http.Cache-Tag + " " + req.http.Cache-Tags + " " +
            req.http.Purge-Cache-Tags + " " + req.http.xkey + " " + req.http.xkey-purge + " " + req.http.xkey-softpurge,
            "[\s,]+", " "), "([^ ]+)", "t:\1");
        call edge_purge_keys;
    } elseif (req.http.X-Purge-All) {
        set req.http.x-edge-key = "all";
        call edge_purge_keys;
    } elseif (req.http.X-Purge-Prefix) {
        set req.http.x-edge-url = "^" + req.http.X-Purge-Prefix;
        call edge_purge_pattern;
    } elseif (req.method == "BAN" || req.http.X-Purge-Method == "regex") {
        set req.http.x-edge-url = "^" + req.url;
        call edge_purge_pattern;
    } else {
        set req.http.x-edge-key = "u:" + req.http.x-edge-key;
        call edge_purge_keys;
    }
    return (synth(10201, "Purged"));
}

sub edge_purge_keys {
    if (req.http.X-Purge-Mode == "soft" || req.http.Fastly-Soft-Purge) {
        set req.http.x-edge-purged = xkey.softpurge(req.http.x-edge-key);
    } else {
        set req.http.x-edge-purged = xkey.purge(req.http.x-edge-key);
    }
}

# A ban: what is kept now and matches is not given any more. It is looked at when it is asked for, and by the lurker.
sub edge_purge_pattern {
    if (req.http.x-edge-url ~ {"["\s]"}) {
        return (synth(400));
    }
    if (!std.ban("obj.http.x-edge-url ~ " + req.http.x-edge-url)) {
        return (synth(400));
    }
    set req.http.x-edge-purged = "-1";
}

# --- the answer: may it be kept, and for how long ----------------------------------------------------------------

sub vcl_backend_response {
    if (beresp.was_304 && beresp.http.x-edge-encoding ~ "^(?i)(?:identity|gzip|x-gzip)$") {
        # What a 304 says of the encoding is not about the body that is kept, and this one is worked with (RFC 9111
        # section 3.2 lets a cache leave such fields alone).
        set beresp.http.Content-Encoding = beresp.http.x-edge-encoding;
        if (beresp.http.Content-Encoding == "identity") {
            unset beresp.http.Content-Encoding;
        }
    }
    unset beresp.http.x-edge-encoding;
    unset beresp.http.x-edge-swr;
    unset beresp.http.x-edge-sie;
    unset beresp.http.x-edge-shared;
    unset beresp.http.x-edge-age;
    unset beresp.http.x-edge-until;
    unset beresp.http.x-edge-status;
    unset beresp.http.x-edge-url;
    call edge_tags;
    # Of one connection only (RFC 9110 section 7.6.1, RFC 9111 section 3.1), whatever Connection says.
    unset beresp.http.Keep-Alive;
    unset beresp.http.Proxy-Authenticate;
    unset beresp.http.Proxy-Authentication-Info;
    unset beresp.http.Proxy-Authorization;
    unset beresp.http.Proxy-Connection;
    unset beresp.http.TE;
    unset beresp.http.Trailer;
    unset beresp.http.Upgrade;
    # Without 206 it says nothing (RFC 9110 section 14.4), but Varnish would refuse the answer.
    unset beresp.http.x-edge-content-range;
    if (beresp.http.Content-Range && beresp.status != 206 && beresp.status != 416) {
        set beresp.http.x-edge-content-range = beresp.http.Content-Range;
        unset beresp.http.Content-Range;
    }

    if (bereq.method != "GET" && bereq.method != "HEAD" && bereq.method != "OPTIONS") {
        return (deliver);
    }
    if (beresp.status == 500 || beresp.status == 502 || beresp.status == 503 || beresp.status == 504) {
        if (beresp.status != 500 && bereq.retries < 1) {
            return (retry);
        }
        # RFC 5861 section 4: rather the old answer than an error.
        if (bereq.is_bgfetch || (var.get("have-stale") == "1" && var.get("mode") == "fresh")) {
            return (abandon);
        }
    }
    # A large file is neither kept nor pumped through memory as fast as the origin can give it. What is kept is that it is
    # large; the visitor gets a tunnel, which is as fast as the visitor, and ranges reach the origin.
    if (bereq.method == "GET" && beresp.status < 300 &&
        (std.integer(beresp.http.Content-Length, 0) > 32000000 || beresp.http.Content-Length ~ "^[0-9]{16,}$")) {
        return (error(200, "Large"));
    }
    if (bereq.uncacheable) {
        return (deliver);
    }
    var.set("tags", "");
    call edge_directives;
    call edge_lifetime;
    call site_rule_fetched;
    call edge_age;
    call edge_stale;
    call edge_shared;
    call edge_storable;
    if (beresp.uncacheable) {
        return (deliver);
    }
    set beresp.http.x-edge-until = std.time2integer(now, 0) + var.get_int("lifetime") - var.get_int("age");
    set beresp.http.x-edge-status = beresp.status;
    if (beresp.was_304) {
        set beresp.http.x-edge-status = "304";
    }
    set beresp.http.x-edge-encoding = "identity";
    if (beresp.do_gzip) {
        set beresp.http.x-edge-encoding = "gzip";
    } elseif (beresp.http.Content-Encoding) {
        set beresp.http.x-edge-encoding = beresp.http.Content-Encoding;
    }
    set beresp.http.x-edge-url = var.get("key");
    set beresp.http.xkey = "all u:" + regsuball(var.get("key"), ",", "%2C") + " " +
        regsuball(regsuball(beresp.http.Surrogate-Key + var.get("tags"), "[\s,]+", " "), "([^ ]+)", "t:\1");
    return (deliver);
}

# Tags come in many headers: Surrogate-Key (Fastly), Cache-Tag (Cloudflare, Akamai), xkey (Varnish), Purge-Cache-Tags and
# X-Drupal-Cache-Tags (Drupal), X-Cache-Tags (WordPress' Proxy Cache Purge).
sub edge_tags {
    if (beresp.was_304) {
        unset beresp.http.xkey;
    }
    std.collect(beresp.http.Surrogate-Key, " ");
    std.collect(beresp.http.Cache-Tag, " ");
    std.collect(beresp.http.Cache-Tags, " ");
    std.collect(beresp.http.X-Cache-Tags, " ");
    std.collect(beresp.http.xkey, " ");
    if (beresp.http.Cache-Tag || beresp.http.Cache-Tags || beresp.http.X-Cache-Tags || beresp.http.xkey || beresp.http.Purge-Cache-Tags ||
        beresp.http.X-Drupal-Cache-Tags) {
        set beresp.http.Surrogate-Key = beresp.http.Surrogate-Key + " " + beresp.http.Cache-Tag + " " +
            beresp.http.Cache-Tags + " " + beresp.http.X-Cache-Tags + " " + beresp.http.xkey + " " + beresp.http.Purge-Cache-Tags + " " +
            beresp.http.X-Drupal-Cache-Tags;
        unset beresp.http.Cache-Tag;
        unset beresp.http.Cache-Tags;
        unset beresp.http.X-Cache-Tags;
        unset beresp.http.Purge-Cache-Tags;
        unset beresp.http.X-Drupal-Cache-Tags;
        unset beresp.http.xkey;
    }
}

# The directives that count: CDN-Cache-Control alone where it is there and well-formed (RFC 9213 section 2.1), else
# Cache-Control. Lower case; quoted strings are gone, so that no directive is found inside one.
sub edge_directives {
    std.collect(beresp.http.Cache-Control);
    std.collect(beresp.http.CDN-Cache-Control);
    std.collect(beresp.http.Vary);
    if (beresp.http.CDN-Cache-Control ~ "^[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|\x22(?:[ !#-\[\]-~]|\x5c[\x22\x5c])*\x22|[A-Za-z*][0-9A-Za-z!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01]))?(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|\x22(?:[ !#-\[\]-~]|\x5c[\x22\x5c])*\x22|[A-Za-z*][0-9A-Za-z!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01]))?)*(?:[ \t]*,[ \t]*[a-z*][a-z0-9_.*-]*(?:=(?:-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|\x22(?:[ !#-\[\]-~]|\x5c[\x22\x5c])*\x22|[A-Za-z*][0-9A-Za-z!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01]))?(?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|\x22(?:[ !#-\[\]-~]|\x5c[\x22\x5c])*\x22|[A-Za-z*][0-9A-Za-z!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01]))?)*)*[ ]*$") {
        var.set("targeted", "1");
        var.set("cc", beresp.http.CDN-Cache-Control.lower());
    } else {
        var.set("targeted", "");
        var.set("cc", beresp.http.Cache-Control.lower());
        # max-age="60" is max-age=60 (RFC 9111 section 5.2).
        var.set("cc", regsuball(var.get("cc"), {"((?:^|,)[ \t]*[a-z-]+=)"([0-9]+)"[ \t]*(?=,|$)"}, "\1\2"));
    }
    var.set("cc", regsuball(var.get("cc"), {""(?:[^"\\]|\\.)*""}, "quoted"));
    # A string that never ends: nothing behind its beginning is a directive.
    var.set("cc", regsub(var.get("cc"), {"".*$"}, "quoted"));
    if (var.get("targeted") == "1") {
        # Parameters of structured fields say nothing here.
        var.set("cc", regsuball(var.get("cc"), "[ \t]*;[^,]*", ""));
    }
}

# RFC 9111 section 4.2.1. A value that is not a number of seconds makes the answer stale; -1 is "nothing said".
sub edge_lifetime {
    var.set_int("lifetime", -1);
    if (var.get("cc") ~ "(?:^|,)[ \t]*s-maxage[ \t]*(?:[=,]|$)") {
        var.set("seconds", regsub(var.get("cc"), "^(?:.*?,)?[ \t]*s-maxage([^,]*).*$", "\1"));
        call edge_seconds;
        var.set_int("lifetime", var.get_int("seconds"));
    } elseif (var.get("cc") ~ "(?:^|,)[ \t]*max-age[ \t]*(?:[=,]|$)") {
        var.set("seconds", regsub(var.get("cc"), "^(?:.*?,)?[ \t]*max-age([^,]*).*$", "\1"));
        call edge_seconds;
        var.set_int("lifetime", var.get_int("seconds"));
    } elseif (beresp.http.Expires && var.get("targeted") == "") {
        var.set_int("lifetime", 0);
        if (beresp.http.Expires ~ "^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4})$") {
            var.set_duration("left", std.time(beresp.http.Expires, now) - std.time(beresp.http.Date, now));
            if (var.get_duration("left") > 0s) {
                var.set_int("lifetime", std.integer(duration = var.get_duration("left"), fallback = 0));
            }
        }
    }
    var.set("explicit", "1");
    if (var.get_int("lifetime") < 0) {
        var.set("explicit", "");
        call edge_heuristic;
    }
}

# "=60" -> 60; more than fits is 2^31 - 1, the largest integer of vmod_var (RFC 9111 section 1.2.2); anything else is 0.
sub edge_seconds {
    if (var.get("seconds") ~ "^=[0-9]{1,9}[ \t]*$") {
        var.set_int("seconds-value", std.integer(regsub(var.get("seconds"), "^=([0-9]+).*$", "\1"), 0));
    } elseif (var.get("seconds") ~ "^=[0-9]+[ \t]*$") {
        var.set_int("seconds-value", 2147483647);
    } else {
        var.set_int("seconds-value", 0);
    }
    var.set_int("seconds", var.get_int("seconds-value"));
}

# RFC 9111 section 4.2.2: a tenth of the time since the last change, at most 3600 s; nothing where the
# answer says that it must not be guessed, and a few seconds for what is not there (RFC 9110 section 15.1).
sub edge_heuristic {
    if (beresp.http.Pragma ~ "(?i)no-cache") {
        return;
    }
    if (beresp.status == 404 || beresp.status == 410) {
        var.set_int("lifetime", 5);
        return;
    }
    if (beresp.status != 200 && beresp.status != 203 && beresp.status != 204 && beresp.status != 300 &&
        beresp.status != 301 && beresp.status != 308 && beresp.status != 414 && beresp.status != 501) {
        return;
    }
    if (beresp.http.Last-Modified ~ "^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4})$") {
        var.set_duration("left", std.time(beresp.http.Date, now) - std.time(beresp.http.Last-Modified, now));
        if (var.get_duration("left") > 0s) {
            var.set_int("lifetime", std.integer(duration = var.get_duration("left"), fallback = 0) / 10);
        }
        if (var.get_int("lifetime") > 3600) {
            var.set_int("lifetime", 3600);
        }
    }
}

# RFC 9111 section 4.2.3. Varnish counts the Age header only; the difference is kept with the answer.
sub edge_age {
    var.set_int("age", 0);
    if (beresp.http.Age ~ "^[0-9]{1,9}[ \t]*(?:,|$)") {
        var.set_int("age", std.integer(regsub(beresp.http.Age, "^([0-9]+).*$", "\1"), 0));
    } elseif (beresp.http.Age ~ "^[0-9]+[ \t]*(?:,|$)") {
        var.set_int("age", 2147483647);
    }
    if (beresp.http.Date ~ "^(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4})$" && now - std.time(beresp.http.Date, now) > std.duration(integer = var.get_int("age"))) {
        var.set_int("age", std.integer(duration = now - std.time(beresp.http.Date, now), fallback = 0));
    }
    set beresp.http.x-edge-age = var.get_int("age") - std.integer(duration = beresp.age, fallback = 0);
    unset beresp.http.Age;
    if (var.get_int("lifetime") < 0) {
        set beresp.ttl = 0s;
    } else {
        set beresp.ttl = std.duration(integer = var.get_int("lifetime") - var.get_int("age"));
    }
}

# RFC 9111 section 4.2.4, RFC 5861. The defaults are the operator's word; must-revalidate is the application's.
sub edge_stale {
    if (var.get("cc") ~ "(?:^|,)[ \t]*(?:must-revalidate|proxy-revalidate|no-cache)[ \t]*(?:[=,]|$)") {
        set beresp.http.x-edge-swr = "0";
        set beresp.http.x-edge-sie = "0";
    } else {
        if (var.get("cc") ~ "(?:^|,)[ \t]*s-maxage[ \t]*(?:[=,]|$)") {
            set beresp.http.x-edge-swr = "0";
            set beresp.http.x-edge-sie = "0";
        } else {
            set beresp.http.x-edge-swr = var.get_int("swr");
            set beresp.http.x-edge-sie = var.get_int("sie");
        }
        if (var.get("cc") ~ "(?:^|,)[ \t]*stale-while-revalidate=") {
            var.set("seconds", regsub(var.get("cc"), "^(?:.*?,)?[ \t]*stale-while-revalidate([^,]*).*$", "\1"));
            call edge_seconds;
            set beresp.http.x-edge-swr = var.get_int("seconds");
            if (beresp.ttl <= 0s && var.get_int("seconds") > 0 && var.get_int("lifetime") == 0) {
                set beresp.ttl = 1ms;
            }
        }
        if (var.get("cc") ~ "(?:^|,)[ \t]*stale-if-error=") {
            var.set("seconds", regsub(var.get("cc"), "^(?:.*?,)?[ \t]*stale-if-error([^,]*).*$", "\1"));
            call edge_seconds;
            set beresp.http.x-edge-sie = var.get_int("seconds");
        }
    }
    set beresp.grace = std.duration(beresp.http.x-edge-swr + "s", 0s);
    if (beresp.grace < std.duration(beresp.http.x-edge-sie + "s", 0s)) {
        set beresp.grace = std.duration(beresp.http.x-edge-sie + "s", 0s);
    }
    # Kept beyond that only to be asked about (RFC 9111 section 4.3).
    if (beresp.http.ETag || beresp.http.Last-Modified) {
        set beresp.keep = 1h;
    } else {
        set beresp.keep = 0s;
    }
}

# Whose credentials may meet this answer: RFC 9111 section 3.5 for Authorization; the same idea for cookies.
sub edge_shared {
    if (var.get("share") == "1") {
        set beresp.http.x-edge-shared = "cookie";
    }
    if (var.get("cc") ~ "(?:^|,)[ \t]*(?:public|s-maxage)[ \t]*(?:[=,]|$)") {
        set beresp.http.x-edge-shared = "cookie authorization";
    } elseif (var.get("cc") ~ "(?:^|,)[ \t]*must-revalidate[ \t]*(?:[=,]|$)" || var.get("authorization") == "1") {
        set beresp.http.x-edge-shared = beresp.http.x-edge-shared + " authorization";
    }
    if (var.get("targeted") == "1") {
        set beresp.http.x-edge-shared = beresp.http.x-edge-shared + " cookie";
    }
}

# RFC 9111 section 3. What may not be kept is remembered for two minutes as such, so that nobody waits for it in a queue.
sub edge_storable {
    if (var.get("cc") ~ "(?:^|,)[ \t]*(?:no-store|private|no-cache)[ \t]*(?:[=,]|$)" ||
        (var.get("targeted") == "" && beresp.http.Cache-Control ~ {""[^"]*$"} && beresp.http.Cache-Control ~ "(?i)no-store|private") ||
        beresp.http.Set-Cookie ||
        beresp.http.Vary ~ "(?:^|,)\s*\*\s*(?:,|$)" ||
        beresp.status == 206 || beresp.status < 200 || beresp.status == 304 ||
        (var.get("credentials") ~ "cookie" && beresp.http.x-edge-shared !~ "cookie") ||
        (var.get("credentials") ~ "authorization" && beresp.http.x-edge-shared !~ "authorization") ||
        beresp.ttl <= 0s) {
        call edge_not_kept;
        return;
    }
    if (var.get("compress") == "1" && !beresp.http.Content-Encoding && var.get("cc") !~ "no-transform" &&
        beresp.http.Content-Type ~ "^(?i)(text/|application/(javascript|json|xml|wasm|manifest\+json|[a-z.+-]*\+(json|xml))|image/svg\+xml|font/(ttf|otf))" &&
        (!beresp.http.Content-Length || std.integer(beresp.http.Content-Length, 0) >= 1024)) {
        set beresp.do_gzip = true;
    }
}

sub edge_not_kept {
    set beresp.ttl = 120s;
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    set beresp.uncacheable = true;
}

sub vcl_backend_error {
    if (beresp.reason == "Large") {
        set beresp.http.x-edge-large = "1";
        set beresp.http.xkey = "all u:" + regsuball(var.get("key"), ",", "%2C");
        set beresp.body = "";
        set beresp.ttl = 10m;
        set beresp.grace = 0s;
        return (deliver);
    }
    # A balancer that takes new routes closes the connections that it kept. Varnish asks again on another one by itself,
    # but not where it hears of the end between taking a connection and using it: then it takes it for a new one.
    if ((bereq.method == "GET" || bereq.method == "HEAD") && bereq.retries == 0 &&
        std.time2real(now, 0.0) - var.get_real("begun") < 1.0) {
        return (retry);
    }
    if ((bereq.method == "GET" || bereq.method == "HEAD") && bereq.retries < 1) {
        return (retry);
    }
    if (bereq.is_bgfetch || (var.get("have-stale") == "1" && var.get("mode") == "fresh")) {
        return (abandon);
    }
    set beresp.http.Content-Type = "text/html; charset=utf-8";
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Retry-After = "5";
    set beresp.status = 502;
    set beresp.body = {"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1><p>The site does not answer. Please try again in a moment.</p></body></html>
"};
    set beresp.ttl = 1s;
    set beresp.grace = 0s;
    set beresp.uncacheable = true;
    return (deliver);
}

# --- what the visitor gets --------------------------------------------------------------------------------------

sub vcl_deliver {
    if (resp.http.x-edge-large) {
        set req.http.x-edge-mode = "large";
        return (restart);
    }
    # RFC 9110 section 13.1.2: Varnish compares one tag, a request may have a list of them, or a star.
    if (req.http.If-None-Match && resp.http.ETag && resp.status == 200 && resp.http.ETag !~ {"^(?:W/)?"[,\s]*"$"} &&
        (req.http.If-None-Match == "*" || str.contains(req.http.If-None-Match, regsub(resp.http.ETag, "^W/", "")))) {
        set req.http.If-None-Match = resp.http.ETag;
    }
    if (req.method != "GET" && req.method != "HEAD" && req.method != "OPTIONS") {
        call edge_invalidate;
    }
    if (resp.http.x-edge-age && resp.http.x-edge-age != "0") {
        set resp.http.Age = std.integer(resp.http.Age, 0) + std.integer(resp.http.x-edge-age, 0);
    }
    if (obj.uncacheable) {
        if (resp.http.Age == "0") {
            unset resp.http.Age;
        }
        set resp.http.X-Cache = "pass " + server.identity;
        if (!req.http.x-edge-forward) {
            set req.http.x-edge-forward = "miss";
        }
        set req.http.x-edge-served = server.identity + "; fwd=" + req.http.x-edge-forward + "; fwd-status=" + resp.status;
    } elseif (obj.hits > 0) {
        set resp.http.X-Cache = "hit " + server.identity;
        if (obj.ttl < 0s) {
            set resp.http.X-Cache = "stale " + server.identity;
        }
        set req.http.x-edge-served = server.identity + "; hit; ttl=" + std.integer(duration = obj.ttl, fallback = 0);
    } else {
        set resp.http.X-Cache = "miss " + server.identity;
        if (req.http.x-edge-mode == "fresh") {
            set req.http.x-edge-forward = "stale";
        } else {
            set req.http.x-edge-forward = "miss";
        }
        set req.http.x-edge-served = server.identity + "; fwd=" + req.http.x-edge-forward + "; fwd-status=" + resp.http.x-edge-status + "; stored";
    }
    # RFC 9211 section 2: the cache nearest to the visitor comes last.
    std.collect(resp.http.Cache-Status);
    if (resp.http.Cache-Status) {
        set resp.http.Cache-Status = resp.http.Cache-Status + ", " + req.http.x-edge-served;
    } else {
        set resp.http.Cache-Status = req.http.x-edge-served;
    }
    if (resp.http.x-edge-content-range && !req.http.Range) {
        set resp.http.Content-Range = resp.http.x-edge-content-range;
    }
    unset resp.http.x-edge-content-range;
    call site_rule_delivered;
    set resp.http.X-Request-Id = req.http.X-Request-Id;
    set resp.http.Via = "1.1 " + server.identity;
    unset resp.http.X-Varnish;
    unset resp.http.x-edge-swr;
    unset resp.http.x-edge-sie;
    unset resp.http.x-edge-shared;
    unset resp.http.x-edge-age;
    unset resp.http.x-edge-until;
    unset resp.http.x-edge-encoding;
    unset resp.http.x-edge-status;
    unset resp.http.x-edge-url;
    unset resp.http.xkey;
    if (!req.http.x-edge-peer) {
        unset resp.http.Surrogate-Key;
        unset resp.http.Surrogate-Control;
    }
    if (std.file_exists("/run/shop/edge-iad/leaving")) {
        set resp.http.Connection = "close";
    }
    return (deliver);
}

sub vcl_synth {
    if (req.http.x-edge-have-stale && req.http.x-edge-mode == "fresh" && resp.status == 503) {
        set req.http.x-edge-mode = "stale";
        return (restart);
    }
    set resp.http.X-Request-Id = req.http.X-Request-Id;
    set resp.http.Cache-Control = "no-store";
    unset resp.http.X-Varnish;
    if (resp.status == 10200) {
        set resp.status = 200;
        set resp.http.Content-Type = "text/plain; charset=utf-8";
        set resp.body = "ok " + server.identity + {"
"};
        return (deliver);
    }
    if (resp.status == 10201) {
        set resp.status = 200;
        set resp.http.Content-Type = "application/json";
        set resp.body = {"{"edge": ""} + server.identity + {"", "purged": "} + req.http.x-edge-purged + {"}
"};
        return (deliver);
    }
    if (req.http.x-edge-location) {
        set resp.http.Location = req.http.x-edge-location;
        set resp.http.Cache-Control = "max-age=3600";
        set resp.http.X-Cache = "synthetic " + server.identity;
    }
    if (resp.status == 405) {
        set resp.http.Allow = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";
    }
    if (resp.status == 429) {
        set resp.http.Retry-After = "1";
    }
    if (resp.status == 503) {
        set resp.status = 502;
    }
    set resp.http.Content-Type = "text/html; charset=utf-8";
    set resp.body = {"<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>"} + resp.status + " " + resp.reason +
        {"</title></head><body><h1>"} + resp.status + " " + resp.reason + {"</h1></body></html>
"};
    return (deliver);
}

# RFC 9111 section 4.4: what a successful unsafe request may have changed is forgotten, and so is what Location and
# Content-Location name on the same host.
sub edge_invalidate {
    if (resp.status < 400) {
        var.set_int("gone", xkey.purge("u:" + regsuball(req.http.x-edge-key, ",", "%2C")));
        if (resp.http.Location) {
            var.set("other", resp.http.Location);
            call edge_invalidate_other;
        }
        if (resp.http.Content-Location) {
            var.set("other", resp.http.Content-Location);
            call edge_invalidate_other;
        }
    }
}

sub edge_invalidate_other {
    var.set("other", regsub(var.get("other"), "#.*$", ""));
    if (var.get("other") ~ "^(?i)https?://") {
        if (regsub(var.get("other"), "^(?i)https?://([^/?]*).*$", "\1").lower() != req.http.Host) {
            return;
        }
        var.set("other", regsub(var.get("other"), "^(?i)https?://[^/?]*/?", "/"));
    } elseif (var.get("other") ~ "^//") {
        return;
    } elseif (var.get("other") !~ "^/") {
        var.set("other", regsub(req.url, "[^/]*(\?.*)?$", "") + var.get("other"));
    }
    var.set_int("gone", xkey.purge("u:" + regsuball(regsuball(std.querysort(regsuball(var.get("other"), "&", " &") + " "), " ", ""), ",", "%2C")));
}
