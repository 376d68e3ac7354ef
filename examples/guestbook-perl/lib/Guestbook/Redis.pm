package Guestbook::Redis;
use v5.36;
use feature 'try';
no warnings 'experimental::try';
use Redis;
use Guestbook::Error;
use Guestbook::URL qw(url_parts);

# A connection to Redis that is opened when first needed and opened again once when it was lost.

sub new ($class, $url, $name) {
    return bless {url => $url, name => $name, connection => undef}, $class;
}

# Calls $work with the connection; $work must bear being called twice.
sub run ($self, $work) {
    try {
        return $work->($self->{connection} //= $self->_connect);
    }
    catch ($error) {
        undef $self->{connection};
    }
    try {
        return $work->($self->{connection} //= $self->_connect);
    }
    catch ($error) {
        undef $self->{connection};
        Guestbook::Error->unavailable("$self->{name}: $error");
    }
}

sub _connect ($self) {
    my $to     = url_parts($self->{url});
    my $number = $to->{path} || 0;
    return Redis->new(
        server        => "$to->{host}:" . ($to->{port} // 6379),
        cnx_timeout   => 1,
        read_timeout  => 2,
        write_timeout => 2,
        on_connect    => sub ($redis) { $redis->select($number) },
        ($to->{password} // '') eq '' ? () : (password => $to->{password}),
    );
}

1;
