use v5.36;
use File::Basename qw(dirname);
use File::Spec;
use lib File::Spec->rel2abs(dirname(__FILE__)) . '/lib';

use Plack::Builder;
use Plack::MIME;
use Plack::Util;
use Guestbook;

my $root = File::Spec->rel2abs(dirname(__FILE__));
Plack::MIME->add_type('.webp' => 'image/webp');

builder {
    # Reached only through its web server, which writes these headers: believe its (the last) entry.
    enable sub ($app) {
        sub ($env) {
            my %trusted = (REMOTE_ADDR => 'FOR', 'psgi.url_scheme' => 'PROTO', HTTP_HOST => 'HOST');
            for my $key (keys %trusted) {
                my $last = (split /\s*,\s*/, $env->{"HTTP_X_FORWARDED_$trusted{$key}"} // '')[-1];
                $env->{$key} = $last if length($last // '');
            }
            $app->($env);
        };
    };
    enable 'Head';
    enable sub ($app) {
        sub ($env) {
            Plack::Util::response_cb($app->($env), sub ($response) {
                Plack::Util::header_set($response->[1], 'X-Content-Type-Options', 'nosniff');
            });
        };
    };
    # Where no balancer serves the files first. Their names change with their content.
    enable 'Static', path => qr{\A/(?:assets|uploads)/[^/]+\z}, root => "$root/public", pass_through => 1;
    Guestbook->new($root, \%ENV)->to_app;
};
