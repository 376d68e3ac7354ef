package Guestbook::Text;
use v5.36;
use Encode       qw(decode FB_CROAK LEAVE_SRC);
use Exporter     qw(import);
use Guestbook::Error;

our @EXPORT_OK = qw(clean random_hex text_from);

# Bytes of a form, as text.
sub text_from ($bytes) {
    return eval { decode('UTF-8', $bytes, FB_CROAK | LEAVE_SRC) }
        // Guestbook::Error->throw(422, 'This is not valid text.');
}

# Trimmed, without control characters and direction overrides, 1 to $limit characters; otherwise an error.
sub clean ($text, $limit, $what) {
    $text =~ s/\r\n/\n/g;
    $text =~ s/[^\P{Cc}\n\t]|[\x{202A}-\x{202E}\x{2066}-\x{2069}]//g;
    $text =~ s/\A\s+|\s+\z//g;
    Guestbook::Error->throw(422, "$what is missing.")                          if $text eq '';
    Guestbook::Error->throw(422, "$what is longer than $limit characters.") if length $text > $limit;
    return $text;
}

# $bytes bytes that nobody can guess.
sub random_hex ($bytes) {
    open my $source, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
    my $got = read($source, my $random, $bytes);
    die "/dev/urandom: too short\n" if ($got // 0) != $bytes;
    return unpack 'H*', $random;
}

1;
