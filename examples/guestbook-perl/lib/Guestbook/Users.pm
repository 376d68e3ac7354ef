package Guestbook::Users;
use v5.36;
use Encode qw(encode_utf8);
use Guestbook::Error;
use Guestbook::Text qw(clean random_hex);

# Names with passwords. A name belongs to the first who logs in with it.

sub new ($class, $database) { return bless {database => $database}, $class }

# The name to be logged in with.
sub log_in ($self, $name, $password) {
    $name     = clean($name, 60, 'Your name');
    $password = encode_utf8($password);
    Guestbook::Error->throw(422, 'A password has 8 to 200 characters.')
        if length $password < 8 || length $password > 200;
    my $known = $self->_hash($name);
    if (!defined $known) {
        # SHA-512 of crypt(5); 100,000 rounds are about 50 ms.
        my $hash = crypt $password, '$6$rounds=100000$' . random_hex(8) . '$';
        $self->{database}->write('INSERT INTO users (name, password_hash) VALUES (?, ?)', $name, $hash);
        $known = $self->_hash($name) // '';    # of two who came at the same moment, one was first
    }
    Guestbook::Error->throw(422, 'This name is taken and the password is not the right one.')
        if $known eq '' || crypt($password, $known) ne $known;
    return $name;
}

sub _hash ($self, $name) {
    my $rows = $self->{database}->read_current('SELECT password_hash FROM users WHERE name = ?', $name);
    return @$rows ? $rows->[0]{password_hash} : undef;
}

1;
