package Guestbook::Database;
use v5.36;
use feature 'try';
no warnings 'experimental::try';
use DBI;
use Time::HiRes qw(sleep);
use Guestbook::Error;
use Guestbook::URL qw(url_parts);

# Two doors to one database: the writer, and a reader that may be a moment behind.
#
# When a server dies the connection is lost and another server takes over behind the same address. Therefore each
# statement is tried a second time on a new connection. Only statements that may run twice belong here: reads, and
# writes that a unique key protects.

# Lost (2002, 2003, 2006, 2013), shutting down (1053), killed (1927), no longer the primary (1290, 1836).
my %LOST          = map { $_ => 1 } 2002, 2003, 2006, 2013, 1053, 1927, 1290, 1836;
my $DUPLICATE     = 1062;
my $PAUSE_SECONDS = 0.25;

sub new ($class, $writer, $reader) {
    return bless {writer => $writer, reader => $reader, connections => {}}, $class;
}

# Rows (hashes) that may be a moment old.
sub read_rows ($self, $sql, @values) {
    return $self->_run($self->{reader}, $sql, \@values, sub ($statement) { $statement->fetchall_arrayref({}) });
}

# Rows as they are now.
sub read_current ($self, $sql, @values) {
    return $self->_run($self->{writer}, $sql, \@values, sub ($statement) { $statement->fetchall_arrayref({}) });
}

# Rows changed; undef where a unique key says that this was done before.
sub write ($self, $sql, @values) {
    try {
        return $self->_run($self->{writer}, $sql, \@values, sub ($statement) { $statement->rows });
    }
    catch ($error) {
        return undef if !ref $error && ($DBI::err // 0) == $DUPLICATE;
        die $error;
    }
}

# True when the writer's door leads to a server that takes writes.
sub is_writable ($self) {
    return !$self->read_current('SELECT @@global.read_only AS read_only')->[0]{read_only};
}

sub _run ($self, $url, $sql, $values, $result) {
    try {
        return $self->_attempt($url, $sql, $values, $result);
    }
    catch ($error) {
        $self->_die_unless_lost($error, $url);
    }
    sleep $PAUSE_SECONDS;
    try {
        return $self->_attempt($url, $sql, $values, $result);
    }
    catch ($error) {
        $self->_die_unless_lost($error, $url);
        Guestbook::Error->unavailable("database: $error");
    }
}

sub _attempt ($self, $url, $sql, $values, $result) {
    my $statement = ($self->{connections}{$url} //= _connect($url))->prepare($sql);
    $statement->execute(@$values);
    return $result->($statement);
}

sub _die_unless_lost ($self, $error, $url) {
    die $error unless $LOST{$DBI::err // 0};
    delete $self->{connections}{$url};
}

# A server that hangs is as lost as one that is gone, so every step has its limit (seconds).
sub _connect ($url) {
    my $to = url_parts($url);
    return DBI->connect(
        "DBI:MariaDB:host=$to->{host};port=" . ($to->{port} // 3306) . ";database=$to->{path}",
        $to->{user},
        $to->{password},
        {
            RaiseError              => 1,
            PrintError              => 0,
            AutoCommit              => 1,
            mariadb_server_prepare  => 1,
            mariadb_connect_timeout => 2,
            mariadb_read_timeout    => 10,
            mariadb_write_timeout   => 10,
            mariadb_init_command    => q{SET time_zone = '+00:00'},
        },
    );
}

1;
