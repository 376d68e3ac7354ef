package Guestbook::Messages;
use v5.36;
use Guestbook::Error;
use Guestbook::Text qw(clean);

# The messages in the database.

use constant PAGE => 20;
my $COLUMNS    = 'id, author, body, picture, created_at';
my $BIGGEST_ID = 9_223_372_036_854_775_807;

sub new ($class, $database) { return bless {database => $database}, $class }

# The newest first; only those older than $before where given.
sub latest ($self, $before = undef) {
    return $self->{database}->read_rows(
        "SELECT $COLUMNS FROM messages WHERE id < ? ORDER BY id DESC LIMIT " . PAGE,
        $before // $BIGGEST_ID,
    );
}

# One message, or undef.
sub find ($self, $id) {
    my $sql = "SELECT $COLUMNS FROM messages WHERE id = ?";

    # A replica may be a moment behind the visitor who has just written: ask the writer before saying "no".
    return $self->{database}->read_rows($sql, $id)->[0] // $self->{database}->read_current($sql, $id)->[0];
}

# Writes a message once, however often it is sent with the same key; returns its id and whether it was there before.
sub add ($self, $key, $author, $body, $picture) {
    $key =~ s/\A[ "]+|[ "]+\z//g;    # the header's standard form is a quoted string
    Guestbook::Error->throw(400, 'A message needs an Idempotency-Key of 8 to 100 letters, digits or ._:-')
        unless $key =~ /\A[A-Za-z0-9._:-]{8,100}\z/;
    my @content = (clean($author, 60, 'Your name'), clean($body, 1000, 'Your message'), $picture);
    my $changed = $self->{database}->write(
        'INSERT INTO messages (author, body, picture, idempotency_key) VALUES (?, ?, ?, ?)',
        @content, $key,
    );
    my $row = $self->{database}
        ->read_current('SELECT id, author, body, picture FROM messages WHERE idempotency_key = ?', $key)->[0];
    Guestbook::Error->throw(422, 'This Idempotency-Key was used for another message.')
        if grep { ($content[$_] // '') ne ($row->{(qw(author body picture))[$_]} // '') } 0 .. 2;
    return {id => $row->{id}, replayed => !defined $changed};
}

1;
