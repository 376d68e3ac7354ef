# The application of web-1, with what a proxy in front of it knows. Written by Lampstand.
use strict;
use warnings;
use Plack::Util ();

my $application = eval { Plack::Util::load_psgi('/srv/releases/r1/app.psgi') };
if (!$application) {
    # Starman would start another worker for ever; ending it leaves the decision to whoever supervises it.
    print STDERR "the application does not start: $@";
    kill 'QUIT', getppid();
    sleep 60;
    exit 1;
}

sub {
    my $env = shift;
    # A unix socket has no peer address, and the connection from Apache is never encrypted.
    $env->{REMOTE_ADDR} = $env->{HTTP_X_FORWARDED_FOR} // '';
    if (lc($env->{HTTP_X_FORWARDED_PROTO} // '') eq 'https') {
        $env->{'psgi.url_scheme'} = 'https';
        $env->{HTTPS} = 'on';
    }
    return $application->($env);
};
