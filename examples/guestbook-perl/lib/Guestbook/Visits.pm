package Guestbook::Visits;
use v5.36;
use Guestbook::Text qw(random_hex);

# How often the guestbook was opened. Lives in the cache: after a restart the count may begin again.

my $KEY = 'guestbook:visits';

sub new ($class, $redis) { return bless {redis => $redis}, $class }

# undef where the cache does not answer: a page without a number is better than no page.
sub count ($self) {
    my $count = eval { 0 + $self->{redis}->run(sub ($redis) { $redis->get($KEY) // 0 }) };
    return $count;
}

sub add ($self) {
    return 0 + $self->{redis}->run(sub ($redis) { $redis->incr($KEY) });
}

# True when the cache takes a value and gives it back.
sub works ($self) {
    my $value = random_hex(8);
    return $self->{redis}->run(sub ($redis) {
        $redis->setex("guestbook:health:$value", 10, $value);
        return ($redis->get("guestbook:health:$value") // '') eq $value;
    });
}

1;
