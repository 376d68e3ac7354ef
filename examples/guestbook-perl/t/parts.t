# What can be tested without engines. tests/integration/examples tests the rest over HTTP.
use v5.36;
use utf8;
use Digest::SHA qw(sha256_hex);
use File::Temp  qw(tempdir);
use FindBin     qw($Bin);
use JSON::PP;
use Test::More;
use lib "$Bin/../lib";
use Guestbook::Database;
use Guestbook::Error;
use Guestbook::Messages;
use Guestbook::Pictures;
use Guestbook::Text qw(clean random_hex text_from);
use Guestbook::URL  qw(url_parts);
use Guestbook::View;

sub refused ($status, $work, $name) {
    my $done = eval { $work->(); 1 };
    my $error = $@;
    ok !$done, "$name: refused";
    is Guestbook::Error->from($error)->status, $status, "$name: with $status";
}

sub write_file ($path, $content) {
    open my $file, '>:raw', $path or die "$path: $!";
    print $file $content;
    close $file or die "$path: $!";
    return $path;
}

subtest 'text is trimmed, bounded and free of control characters' => sub {
    is clean("  a\r\nb\x00\x{202E} \x{2003}", 3, 'It'), "a\nb", 'clean';
    is clean('é' x 60, 60, 'It'), 'é' x 60, 'characters are counted, not bytes';
    refused(422, sub { clean('é' x 61, 60, 'It') }, 'too long');
    refused(422, sub { clean(" \n\t\x07", 60, 'It') }, 'empty');
    refused(422, sub { text_from("\xff\xfe") }, 'not UTF-8');
    is text_from("\xc3\xa9"), 'é', 'UTF-8';
    like random_hex(16), qr/\A[0-9a-f]{32}\z/, 'random';
};

subtest 'bad idempotency keys are refused before the database is asked' => sub {
    my $messages = Guestbook::Messages->new(Guestbook::Database->new(('mysql://nobody@127.0.0.1:1/none') x 2));
    refused(400, sub { $messages->add($_, 'Ada', 'x', undef) }, "key '$_'")
        for '', 'short', 'with space', 'x' x 101, "abcdefgh\n", 'schluessel-ü';
};

subtest 'URLs of servers' => sub {
    is_deeply url_parts('mysql://a%40b:p%2Fw%3A%25@127.0.0.1:3306/name'),
        {user => 'a@b', password => 'p/w:%', host => '127.0.0.1', port => 3306, path => 'name'}, 'whole';
    is_deeply url_parts('redis://:secret@cache/0'),
        {user => '', password => 'secret', host => 'cache', port => undef, path => '0'}, 'no user, no port';
    is url_parts('redis://[::1]:6379/2')->{host}, '[::1]', 'IPv6';
    ok !eval { url_parts('nonsense'); 1 }, 'nonsense';
};

subtest 'pictures are named after their content' => sub {
    my $folder   = tempdir(CLEANUP => 1);
    my $pictures = Guestbook::Pictures->new("$folder/uploads");
    my $png      = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    my $file     = write_file("$folder/evil.pl", $png);
    my $name     = substr(sha256_hex($png), 0, 40) . '.png';
    is $pictures->keep($file), $name, 'name';
    is $pictures->keep($file), $name, 'again';
    is_deeply [map { s{.*/}{}r } glob "$folder/uploads/*"], [$name], 'one file, no parts';
    refused(422, sub { $pictures->keep(write_file("$folder/x", $_)) }, "'$_'")
        for '', '<svg/>', 'RIFF....WAVE', "x$png";
    refused(413, sub { $pictures->keep(write_file("$folder/x", $png . 'x' x Guestbook::Pictures->LIMIT_BYTES)) }, 'large');
};

subtest 'pages escape what they print' => sub {
    my $view = Guestbook::View->new("$Bin/..", 'web-1', 'r1');
    my $page = $view->layout('</title>', $view->message({
        id => 1, author => '<b>', body => q{"&'<script>}, picture => undef, created_at => '2026-01-02 03:04:05.678',
    }), undef, undef);
    unlike $page, qr/<script>/,  'no script';
    unlike $page, qr/<b><b>/,    'no markup';
    like $page, qr/&quot;&amp;&#39;&lt;script&gt;/, 'escaped';
    like $page, qr/datetime="2026-01-02T03:04:05Z"/, 'time';
    like $page, qr{<title>&lt;/title&gt;</title>}, 'title';
    like $view->home([], undef, 1234567), qr/1,234,567/, 'thousands';
};

subtest 'assets carry the fingerprint of their content' => sub {
    my $read     = sub ($name) { open my $file, '<:raw', "$Bin/../public/assets/$name" or die $!; local $/; <$file> };
    my $manifest = decode_json($read->('manifest.json'));
    for my $name (sort keys %$manifest) {
        my $hash = substr sha256_hex($read->($manifest->{$name})), 0, 8;
        is $manifest->{$name}, $name =~ s/\.(?=[a-z]+\z)/.$hash./r, $name;
    }
    is scalar(() = glob "$Bin/../public/assets/*"), 1 + keys %$manifest, 'nothing else';
};

done_testing;
