package Guestbook::Pictures;
use v5.36;
use Digest::SHA ();
use File::Copy  qw(copy);
use File::Path  qw(make_path);
use Guestbook::Error;
use Guestbook::Text qw(random_hex);

# Pictures in a folder that all web servers share. A file is named after its content and never changes.

use constant LIMIT_BYTES => 2 * 1024 * 1024;
my @KINDS = (
    [jpg  => qr/\A\xff\xd8\xff/],
    [png  => qr/\A\x89PNG\r\n\x1a\n\0\0\0\rIHDR/],
    [gif  => qr/\AGIF8[79]a/],
    [webp => qr/\ARIFF.{4}WEBPVP8[ LX]/s],
);

sub new ($class, $folder) { return bless {folder => $folder}, $class }

# Checks and keeps an uploaded file; returns the name it is served under.
sub keep ($self, $file) {
    Guestbook::Error->throw(413, 'A picture has at most 2 MiB.') if -s $file > LIMIT_BYTES;
    my $name = substr(Digest::SHA->new(256)->addfile($file, 'b')->hexdigest, 0, 40) . '.' . _kind($file);
    my $path = "$self->{folder}/$name";
    return $name if -e $path;

    # Written beside and renamed: no other web server ever serves half a picture.
    my $part = "$path." . random_hex(6) . '.part';
    make_path($self->{folder}, {error => \my $ignored});
    if (!copy($file, $part) || !chmod(0644, $part) || !rename $part, $path) {
        my $reason = $!;
        unlink $part;
        Guestbook::Error->unavailable("uploads: $path: $reason");
    }
    return $name;
}

# The ending that fits. The content decides, neither the name nor the type that the visitor claims.
sub _kind ($file) {
    CORE::open my $handle, '<:raw', $file or Guestbook::Error->unavailable("uploads: $file: $!");
    read $handle, my $beginning, 32;
    for my $kind (@KINDS) {
        return $kind->[0] if $beginning =~ $kind->[1];
    }
    Guestbook::Error->throw(422, 'A picture is a JPEG, PNG, GIF or WebP.');
}

1;
