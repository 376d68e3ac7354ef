package Guestbook::Error;
use v5.36;

# What can go wrong without being a bug: the visitor's mistake (400 to 422, the message is for the visitor), or an engine
# that does not answer (503, the message is for the log).

sub new ($class, $status, $message) { bless {status => $status, message => $message}, $class }

sub throw ($class, $status, $message) { die $class->new($status, $message) }

sub unavailable ($class, $message) { $class->throw(503, $message) }

# Whatever was thrown, as an error of ours: what we did not throw is a bug.
sub from ($class, $error) {
    return ref $error && $error->isa($class) ? $error : $class->new(500, "$error");
}

sub status ($self)  { $self->{status} }
sub message ($self) { $self->{message} }

1;
