# The application with engines that nobody runs: port 1 refuses every connection.
use v5.36;
use FindBin qw($Bin);
use HTTP::Request::Common;
use JSON::PP;
use Plack::Test;
use Plack::Util;
use Test::More;

local %ENV = (%ENV, DATABASE_URL => 'mysql://nobody@127.0.0.1:1/none', REDIS_URL => 'redis://127.0.0.1:1/0');
delete @ENV{qw(DATABASE_REPLICA_URL SESSION_REDIS_URL)};
local $SIG{__WARN__} = sub { };    # what goes to the log
my $test = Plack::Test->create(Plack::Util::load_psgi("$Bin/../app.psgi"));
my $ask  = sub ($request) { $test->request($request) };

subtest 'unknown pages and methods' => sub {
    is $ask->(GET $_)->code, 404, $_ for '/nothing', '/messages/01', '/uploads/none.png', '/assets/../../cpanfile';
    my $wrong = $ask->(HTTP::Request->new(DELETE => '/login'));
    is $wrong->code, 405, 'wrong method';
    is $wrong->header('Allow'), 'GET, POST', 'Allow';
    is $ask->(POST '/messages', Content => 'x' x (3 * 1024 * 1024 + 1))->code, 413, 'too large';
};

subtest 'files' => sub {
    my ($css) = glob "$Bin/../public/assets/app.*.css";
    my $answer = $ask->(GET '/assets/' . $css =~ s{.*/}{}r);
    is $answer->code, 200, 'found';
    is $answer->content_type, 'text/css', 'type';
    is $answer->header('X-Content-Type-Options'), 'nosniff', 'nosniff';
};

subtest 'without engines pages answer 503 and health says which' => sub {
    my $page = $ask->(GET '/');
    is $page->code, 503, 'page';
    is $page->header('Cache-Control'), 'no-store', 'not kept';
    ok $page->header('Retry-After'), 'Retry-After';
    my $health = $ask->(GET '/healthz');
    is $health->code, 503, 'health';
    is_deeply decode_json($health->content)->{failing}, ['database', 'cache'], 'failing';
    is $ask->(GET '/sign')->code, 503, 'a form needs a session, a session its store';
};

subtest 'a form without its token changes nothing' => sub {
    is $ask->(POST '/messages', [body => 'x'])->code, 403, 'message';
    is $ask->(POST '/login', [csrf => ''])->code, 403, 'login';
};

subtest 'the last proxy is believed and no other' => sub {
    my $who = decode_json $ask->(
        GET '/whoami',
        'X-Forwarded-For'   => '203.0.113.9, 198.51.100.7',
        'X-Forwarded-Proto' => 'https',
    )->content;
    is "$who->{client} $who->{scheme}", '198.51.100.7 https', 'client and scheme';
};

subtest 'numbers in the query are kept in bounds' => sub {
    is decode_json($ask->(GET "/slow?seconds=$_")->content)->{slept}, 0, "seconds=$_" for '-1', '0', '-inf';
};

done_testing;
