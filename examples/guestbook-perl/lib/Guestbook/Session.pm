package Guestbook::Session;
use v5.36;
use feature 'try';
no warnings 'experimental::try';
use JSON::PP ();
use Guestbook::Error;
use Guestbook::Text qw(random_hex);

# A visitor's session, kept in Redis. The cookie holds nothing but an id that cannot be guessed.
#
# It is opened only for visitors who bring its cookie, and made only for those who need one (a form, a login). So
# everybody else's pages carry no cookie and stay cacheable.

my $COOKIE           = 'guestbook_session';
my $LIFETIME_SECONDS = 7 * 86400;
my $JSON             = JSON::PP->new->utf8->canonical;

# The session of a Plack::Request; an empty one for an unknown id, which is never adopted.
sub open ($class, $redis, $request) {
    my $id      = $request->cookies->{$COOKIE};
    my $self    = bless {
        redis   => $redis,
        present => defined $id,
        secure  => $request->scheme eq 'https',
        data    => {},
    }, $class;
    if (defined $id && $id =~ /\A[0-9a-f]{64}\z/) {
        try {
            my $kept = $redis->run(sub ($redis) { $redis->get("session:$id") });
            @$self{qw(id data)} = ($id, $JSON->decode($kept)) if defined $kept;
        }
        catch ($error) {
            warn Guestbook::Error->from($error)->message . "\n";    # reads go on as if logged out
        }
    }
    return $self;
}

sub is_present ($self) { $self->{present} }
sub user ($self)       { $self->{data}{user} }

# The Set-Cookie header that the visitor must get, if any.
sub cookie ($self) { $self->{cookie} }

# The token that this visitor's forms carry.
sub token ($self) {
    $self->_keep({%{$self->{data}}, token => random_hex(16)}) unless exists $self->{data}{token};
    return $self->{data}{token};
}

# Refuses a form that was not made for this visitor.
sub require_token ($self, $token) {
    my $known = $self->{data}{token} // '';
    return if $known ne '' && _same($known, $token);
    Guestbook::Error->throw(403, 'This form is too old. Go back, load it again and send it once more.');
}

sub log_in ($self, $name) {
    $self->_forget;    # an id that somebody planted before the login is worth nothing after it
    $self->_keep({user => $name, token => random_hex(16)});
}

sub log_out ($self) {
    $self->_forget;
    $self->_set_cookie('', 'Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT');
}

sub _forget ($self) {
    my $id = delete $self->{id} // return;
    $self->{data} = {};
    $self->{redis}->run(sub ($redis) { $redis->del("session:$id") });
}

sub _keep ($self, $data) {
    $self->{id} //= random_hex(32);
    $self->{redis}->run(sub ($redis) { $redis->setex("session:$self->{id}", $LIFETIME_SECONDS, $JSON->encode($data)) });
    $self->{data} = $data;
    $self->_set_cookie($self->{id});
}

sub _set_cookie ($self, $value, @more) {
    $self->{cookie} = join '; ', "$COOKIE=$value", 'Path=/', 'HttpOnly', 'SameSite=Lax', ('Secure') x !!$self->{secure}, @more;
}

# Compares without telling by the time it takes where two texts differ.
sub _same ($one, $other) {
    return 0 if length $one != length $other;
    my $difference = 0;
    $difference |= ord(substr $one, $_, 1) ^ ord(substr $other, $_, 1) for 0 .. length($one) - 1;
    return $difference == 0;
}

1;
