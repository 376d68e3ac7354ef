package Guestbook::URL;
use v5.36;
use Exporter qw(import);

our @EXPORT_OK = qw(url_parts);

# mysql://user:password@host:port/name and redis://:password@host:port/number, in parts.
sub url_parts ($url) {
    my ($user, $password, $host, $port, $path) = $url =~ m{
        \A [a-z]+ ://
        (?: ([^:@/]*) (?: : ([^@/]*) )? @ )?
        ( \[ [0-9A-Fa-f:.]+ \] | [^:/@]+ )
        (?: : ([0-9]+) )?
        (?: / ([^?]*) )? \z
    }x or die "not a URL of a server\n";
    return {user => _plain($user), password => _plain($password), host => $host, port => $port, path => _plain($path)};
}

sub _plain ($text) {
    return undef unless defined $text;
    return $text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger;
}

1;
