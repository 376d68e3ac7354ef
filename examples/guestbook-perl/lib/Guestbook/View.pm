package Guestbook::View;
use v5.36;
use utf8;
use Encode   qw(encode_utf8);
use JSON::PP ();
use Plack::Util;

# The pages' HTML. Everything that is not markup goes through e().

sub new ($class, $root, $server, $release) {
    my $file = "$root/public/assets/manifest.json";
    CORE::open my $manifest, '<:raw', $file or die "$file: $!\n";
    my $assets = JSON::PP->new->utf8->decode(do { local $/; <$manifest> });
    return bless {assets => $assets, server => $server, release => $release}, $class;
}

sub e ($text) { Plack::Util::encode_html($text // '') }

# The address of an asset; its name changes with its content, so it may be cached for ever.
sub asset ($self, $name) { e("/assets/$self->{assets}{$name}") }

sub layout ($self, $title, $content, $user, $token) {
    my $account = defined $user
        ? qq{<form method="post" action="/logout">
        <input type="hidden" name="csrf" value="@{[e($token)]}">
        <button class="link">Log out @{[e($user)]}</button>
      </form>}
        : '<a class="link" href="/login">Log in</a>';
    return <<~HTML;
        <!doctype html>
        <html lang="en">
        <head>
          <meta charset="utf-8">
          <meta name="viewport" content="width=device-width, initial-scale=1">
          <meta name="color-scheme" content="light dark">
          <title>@{[e($title)]}</title>
          <link rel="icon" type="image/svg+xml" href="@{[$self->asset('logo.svg')]}">
          <link rel="stylesheet" href="@{[$self->asset('app.css')]}">
          <script src="@{[$self->asset('app.js')]}" defer></script>
        </head>
        <body>
          <header class="bar">
            <a class="brand" href="/"><img src="@{[$self->asset('logo.svg')]}" width="36" height="36" alt="">Guestbook<small>Perl</small></a>
            <nav>
              $account
              <a class="button" href="/sign">Sign</a>
            </nav>
          </header>
          <main>
        $content
          </main>
          <footer>
            <p>Served by <b>@{[e($self->{server})]}</b>, release <b>@{[e(substr $self->{release}, 0, 12)]}</b></p>
            <p>Perl, MariaDB and Redis behind Apache, nginx and Varnish</p>
          </footer>
        </body>
        </html>
        HTML
}

sub home ($self, $messages, $older, $visits) {
    my $entries = join '', map { $self->entry($_) } @$messages;
    $entries ||= '<p class="empty">Nothing here yet. <a href="/sign">Be the first.</a></p>';
    my $more  = $older ? qq{<p class="more"><a class="button quiet" href="/?before=@{[e($older)]}">Older messages</a></p>} : '';
    my $count = defined $visits ? reverse(reverse($visits) =~ s/(\d{3})(?=\d)/$1,/gr) : '–';
    return <<~HTML;
            <section class="hero">
              <h1>You were here.</h1>
              <p>Leave a line for whoever comes next.</p>
              <p class="visits">Visitor number <b data-visits>@{[e($count)]}</b></p>
            </section>
            <section class="messages">
        $entries
            </section>
            $more
        HTML
}

sub message ($self, $message) {
    return <<~HTML;
            <section class="messages single">
        @{[$self->entry($message)]}
            </section>
            <p class="more"><a class="button quiet" href="/">All messages</a></p>
        HTML
}

sub entry ($self, $message) {
    my $author  = e($message->{author});
    my $hue     = unpack('%32C*', encode_utf8($message->{author})) % 6;    # always the same for a name
    my $iso     = substr($message->{created_at}, 0, 19) =~ s/ /T/r . 'Z';
    my $source  = e("/uploads/" . ($message->{picture} // ''));
    my $picture = defined $message->{picture}
        ? qq{<a href="$source"><img class="picture" src="$source" alt="Picture by $author" loading="lazy"></a>}
        : '';
    return <<~HTML;
              <article class="message">
                <header>
                  <span class="avatar hue-$hue" aria-hidden="true">@{[e(substr $message->{author}, 0, 1)]}</span>
                  <div>
                    <b>$author</b>
                    <a href="/messages/@{[e($message->{id})]}"><time datetime="$iso">@{[e(substr $message->{created_at}, 0, 16)]} UTC</time></a>
                  </div>
                </header>
                <p class="body">@{[e($message->{body})]}</p>
                $picture
              </article>
        HTML
}

sub sign ($self, $form) {
    my $user = $form->{user};
    my $name = defined $user ? '' : <<~HTML;
              <label>Your name
                <input name="author" value="@{[e($form->{author})]}" maxlength="60" required autocomplete="name">
              </label>
        HTML
    my $picture = defined $user ? <<~HTML : '<p class="hint"><a href="/login">Log in</a> to add a picture.</p>';
              <label>A picture, if you like
                <input type="file" name="picture" accept="image/jpeg,image/png,image/gif,image/webp">
                <span class="hint">JPEG, PNG, GIF or WebP, at most 2 MiB</span>
              </label>
        HTML
    # The text of a textarea must not be indented.
    my $body = qq{<textarea name="body" rows="6" maxlength="1000" required>@{[e($form->{body})]}</textarea>};
    return <<~HTML;
            <form class="card" method="post" action="/messages" enctype="multipart/form-data">
              <h1>Sign the guestbook</h1>
              @{[$self->alert($form->{error})]}
              <input type="hidden" name="csrf" value="@{[e($form->{token})]}">
              <input type="hidden" name="idempotency_key" value="@{[e($form->{key})]}">
        $name
              <label>Your message
        $body
              </label>
        $picture
              <button class="button">Sign@{[defined $user ? ' as ' . e($user) : '']}</button>
            </form>
        HTML
}

sub login ($self, $form) {
    return <<~HTML;
            <form class="card" method="post" action="/login">
              <h1>Log in</h1>
              @{[$self->alert($form->{error})]}
              <input type="hidden" name="csrf" value="@{[e($form->{token})]}">
              <label>Your name
                <input name="name" value="@{[e($form->{name})]}" maxlength="60" required autocomplete="username">
              </label>
              <label>Password
                <input type="password" name="password" minlength="8" maxlength="200" required autocomplete="current-password">
              </label>
              <p class="hint">A new name becomes yours with the password that you choose now.</p>
              <button class="button">Log in</button>
            </form>
        HTML
}

sub alert ($self, $error) { defined $error ? qq{<p class="error" role="alert">@{[e($error)]}</p>} : '' }

sub error ($self, $status, $text) {
    return <<~HTML;
            <section class="card">
              <h1>@{[e($status)]}</h1>
              <p>@{[e($text)]}</p>
              <p><a class="button quiet" href="/">Back to the guestbook</a></p>
            </section>
        HTML
}

1;
