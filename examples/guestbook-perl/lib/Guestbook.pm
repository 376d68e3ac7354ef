package Guestbook;
use v5.36;
use feature 'try';
no warnings 'experimental::try';
use Encode        qw(encode_utf8);
use JSON::PP      ();
use List::Util    qw(max min);
use Plack::Request;
use Scalar::Util  qw(looks_like_number);
use Sys::Hostname qw(hostname);
use Time::HiRes   qw(sleep);
use Guestbook::Database;
use Guestbook::Error;
use Guestbook::Messages;
use Guestbook::Pictures;
use Guestbook::Redis;
use Guestbook::Session;
use Guestbook::Text qw(random_hex text_from);
use Guestbook::Users;
use Guestbook::View;
use Guestbook::Visits;

# Every page of the guestbook: a PSGI application. One object serves a process; one hash ($c) goes through a request.

use constant REQUEST_LIMIT_BYTES => 3 * 1024 * 1024;
my $JSON = JSON::PP->new->utf8->canonical;

my %PAGES = (
    '/'         => {GET  => \&home},
    '/sign'     => {GET  => sub ($self, $c) { $self->form($c, 'sign', 'Sign the guestbook') }},
    '/messages' => {POST => \&post},
    '/login'    => {GET  => sub ($self, $c) { $self->form($c, 'login', 'Log in') }, POST => \&log_in},
    '/logout'   => {POST => \&log_out},
    '/visits'   => {
        GET  => sub ($self, $c) { $self->json(200, {visits => $self->{visits}->count}) },
        POST => sub ($self, $c) { $self->json(200, {visits => $self->{visits}->add}) },
    },
    '/healthz' => {GET => \&health},
    '/whoami'  => {GET => \&whoami},
    '/slow'    => {GET => \&slow},
    '/events'  => {GET => \&events},
);

# An application below $root, wired to the engines that the environment names. Connects to none of them yet.
sub new ($class, $root, $environment) {
    my $get      = sub ($name, $default) { length($environment->{$name} // '') ? $environment->{$name} : $default };
    my $writer   = $get->('DATABASE_URL', 'mysql://guestbook:guestbook@127.0.0.1:3306/guestbook');
    my $cache    = $get->('REDIS_URL', 'redis://127.0.0.1:6379/0');
    my $database = Guestbook::Database->new($writer, $get->('DATABASE_REPLICA_URL', $writer));
    my $self     = bless {
        database => $database,
        messages => Guestbook::Messages->new($database),
        users    => Guestbook::Users->new($database),
        pictures => Guestbook::Pictures->new("$root/public/uploads"),
        visits   => Guestbook::Visits->new(Guestbook::Redis->new($cache, 'cache')),
        sessions => Guestbook::Redis->new($get->('SESSION_REDIS_URL', $cache), 'sessions'),
        server   => $get->('LAMPSTAND_SERVER', hostname()),
        release  => $get->('APP_RELEASE', 'development'),
    }, $class;
    $self->{view} = Guestbook::View->new($root, @$self{qw(server release)});
    return $self;
}

sub to_app ($self) {
    return sub ($env) { $self->answer(Plack::Request->new($env)) };
}

sub answer ($self, $request) {
    my $c = {request => $request, session => undef};
    my $response;
    try {
        Guestbook::Error->throw(413, 'This is too much at once: a picture has at most 2 MiB.')
            if ($request->content_length // 0) > REQUEST_LIMIT_BYTES;
        $c->{session} = Guestbook::Session->open($self->{sessions}, $request);
        $response = $self->dispatch($c);
    }
    catch ($error) {
        $response = $self->failure($c, Guestbook::Error->from($error));
    }
    push @{$response->[1]}, 'X-Served-By' => $self->{server};
    my $cookie = $c->{session} && $c->{session}->cookie;
    push @{$response->[1]}, 'Set-Cookie' => $cookie if defined $cookie;

    # A body that is code prints while it runs.
    return $response if ref $response->[2] ne 'CODE';
    my ($status, $headers, $body) = @$response;
    return sub ($respond) { $body->($respond->([$status, $headers])) };
}

sub dispatch ($self, $c) {
    my $path   = $c->{request}->path;
    my $method = $c->{request}->method eq 'HEAD' ? 'GET' : $c->{request}->method;
    my $page   = $path =~ m{\A/messages/([1-9][0-9]{0,17})\z}
        ? do { my $id = $1; {GET => sub ($self, $c) { $self->message($c, $id) }} }
        : $PAGES{$path};
    Guestbook::Error->throw(404, 'There is no such page.') unless $page;
    return $page->{$method}->($self, $c) if $page->{$method};
    my $response = $self->failure($c, Guestbook::Error->new(405, 'This page does not do that.'));
    push @{$response->[1]}, Allow => join ', ', sort keys %$page;
    return $response;
}

# --- pages ---

sub home ($self, $c) {
    my $before   = int $self->number($c, 'before', 0, 0, 1e15);
    my $messages = $self->{messages}->latest($before || undef);
    my $older    = @$messages == Guestbook::Messages->PAGE ? $messages->[-1]{id} : undef;
    return $self->page($c, 'Guestbook', 'guestbook messages', $self->{view}->home($messages, $older, $self->{visits}->count));
}

sub message ($self, $c, $id) {
    my $message = $self->{messages}->find($id) // Guestbook::Error->throw(404, 'There is no such message.');
    return $self->page($c, "Message from $message->{author}", "guestbook message-$id", $self->{view}->message($message));
}

sub post ($self, $c) {
    my ($request, $session) = @$c{qw(request session)};

    # No other site can make a browser send this header without asking first (CORS preflight), so it proves as much as
    # the token does and lets programs write without a session.
    my $key = $request->header('Idempotency-Key') // '';
    if ($key eq '') {
        $session->require_token($self->field($c, 'csrf'));
        $key = $self->field($c, 'idempotency_key');
    }
    my $written;
    try {
        my $upload = $request->upload('picture');
        $upload = undef if $upload && !length($upload->filename // '');
        Guestbook::Error->throw(403, 'Log in to add a picture.') if $upload && !defined $session->user;
        my $author = $session->user // $self->field($c, 'author');
        my $body   = $self->field($c, 'body');
        my $picture = $upload ? $self->{pictures}->keep($upload->path) : undef;
        $written = $self->{messages}->add($key, $author, $body, $picture);
    }
    catch ($error) {
        my $ours = Guestbook::Error->from($error);
        die $error if $ours->status >= 500 || wants_json($c) || !$session->is_present;
        return $self->form($c, 'sign', 'Sign the guestbook', $ours);
    }
    my $url = "/messages/$written->{id}";
    return see_other($url) unless wants_json($c);
    my $answer = {
        id       => 0 + $written->{id},
        replayed => $written->{replayed} ? JSON::PP::true : JSON::PP::false,
        url      => $url,
        server   => $self->{server},
    };
    return $self->json(201, $answer, Location => $url);
}

sub log_in ($self, $c) {
    $c->{session}->require_token($self->field($c, 'csrf'));
    try {
        $c->{session}->log_in($self->{users}->log_in($self->field($c, 'name'), $self->field($c, 'password')));
    }
    catch ($error) {
        my $ours = Guestbook::Error->from($error);
        die $error if $ours->status >= 500;
        return $self->form($c, 'login', 'Log in', $ours);
    }
    return see_other('/');
}

sub log_out ($self, $c) {
    $c->{session}->require_token($self->field($c, 'csrf'));
    $c->{session}->log_out;
    return see_other('/');
}

# --- what machines ask ---

sub health ($self, $c) {
    my %checks = (
        database => check(sub { $self->{database}->is_writable ? 'ok' : 'read-only' }),
        cache    => check(sub { $self->{visits}->works         ? 'ok' : 'does not keep values' }),
    );
    my @failing = grep { $checks{$_} ne 'ok' } qw(database cache);
    return $self->json(@failing ? 503 : 200, {
        status  => @failing ? 'failing' : 'ok',
        failing => \@failing,
        checks  => \%checks,
        server  => $self->{server},
        release => $self->{release},
    });
}

# What a check says. Addresses and accounts belong in the log, not in the answer.
sub check ($run) {
    try {
        return $run->();
    }
    catch ($error) {
        warn Guestbook::Error->from($error)->message . "\n";
        return 'unreachable';
    }
}

sub whoami ($self, $c) {
    my ($request, $session) = @$c{qw(request session)};
    return $self->json(200, {
        scheme     => $request->scheme,
        host       => $request->env->{HTTP_HOST},
        client     => $request->address,
        request_id => $request->header('X-Request-Id') // '',
        session    => $session->is_present ? JSON::PP::true : JSON::PP::false,
        user       => $session->user,
        server     => $self->{server},
        release    => $self->{release},
        language   => 'perl',
    });
}

sub slow ($self, $c) {
    my $seconds = $self->number($c, 'seconds', 1, 0, 30);
    sleep $seconds;
    return $self->json(200, {slept => $seconds, server => $self->{server}});
}

sub events ($self, $c) {
    my $count    = int $self->number($c, 'count', 10, 1, 60);
    my $interval = $self->number($c, 'interval', 1, 0.05, 5);
    my @headers  = ('Content-Type' => 'text/event-stream', 'Cache-Control' => 'no-store', 'X-Accel-Buffering' => 'no');
    return [200, \@headers, sub ($writer) {
        for my $n (1 .. $count) {
            $writer->write("id: $n\ndata: " . $JSON->encode({n => $n, server => $self->{server}}) . "\n\n");
            sleep $interval if $n < $count;
        }
        $writer->write("event: done\ndata: {}\n\n");
        $writer->close;
    }];
}

# --- answers ---

# A page that the edges may keep for visitors without a session; the tags say what to purge it by.
sub page ($self, $c, $title, $tags, $content) {
    my @headers = $c->{session}->is_present
        ? ('Cache-Control' => 'private, no-store')
        : ('Cache-Control' => 'public, max-age=10, stale-while-revalidate=30', 'Surrogate-Key' => $tags);
    return $self->html($c, 200, $title, $content, @headers, Vary => 'Cookie');
}

# A page for one visitor, filled with what was typed before.
sub form ($self, $c, $template, $title, $error = undef) {
    my $content = $self->{view}->$template({
        (map { $_ => eval { $self->field($c, $_) } // '' } qw(name author body)),
        error => $error && $error->message,
        key   => random_hex(16),
        token => $c->{session}->token,
        user  => $c->{session}->user,
    });
    return $self->html($c, $error ? $error->status : 200, $title, $content, 'Cache-Control' => 'private, no-store');
}

sub failure ($self, $c, $error) {
    my ($status, $text) = ($error->status, $error->message);
    my @headers = ('Cache-Control' => 'no-store');
    if ($status >= 500) {
        warn "$text\n";
        $text = $status == 503
            ? 'We cannot reach our books just now. Please try again in a moment.'
            : 'Something went wrong on our side.';
        push @headers, 'Retry-After' => 2 if $status == 503;
    }
    return $self->json($status, {error => $text}, @headers) if wants_json($c);
    return $self->html($c, $status, 'Sorry', $self->{view}->error($status, $text), @headers);
}

sub html ($self, $c, $status, $title, $content, @headers) {
    my $user  = $c->{session} && $c->{session}->user;
    my $token = defined $user ? $c->{session}->token : undef;
    return [$status, [
        @headers,
        'Content-Type'            => 'text/html; charset=utf-8',
        'Content-Security-Policy' => "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        'Referrer-Policy'         => 'same-origin',
    ], [encode_utf8($self->{view}->layout($title, $content, $user, $token))]];
}

sub json ($self, $status, $value, @headers) {
    my %given = @headers;
    push @headers, 'Cache-Control' => 'no-store' unless $given{'Cache-Control'};
    return [$status, [@headers, 'Content-Type' => 'application/json'], [$JSON->encode($value) . "\n"]];
}

sub see_other ($url) { [303, [Location => $url, 'Cache-Control' => 'no-store'], ['']] }

# --- what the visitor sent ---

sub wants_json ($c) { ($c->{request}->header('Accept') // '') =~ m{application/json} }

sub field ($self, $c, $name) { text_from($c->{request}->body_parameters->get($name) // '') }

# A number from the query, kept between $low and $high.
sub number ($self, $c, $name, $default, $low, $high) {
    my $value = $c->{request}->query_parameters->get($name);
    return $default unless looks_like_number($value) && $value == $value;    # "nan" is not itself
    return 0 + max($low, min($high, $value));
}

1;
