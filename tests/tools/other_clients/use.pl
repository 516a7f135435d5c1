# Ordinary use of Cache::Memcached and Cache::Memcached::Fast. Arguments: host port, then the class.
use strict;
use warnings;
my ($host, $port, $class) = @ARGV;
my $checked = 0;
sub check { my ($is, $what) = @_; die "not so: $what\n" unless $is; $checked++ }
eval "require $class" or die $@;
my $fast = $class =~ /Fast/;
my $client = $class->new($fast ? { servers => ["$host:$port"], io_timeout => 5 } : { servers => ["$host:$port"], select_timeout => 5 });
$client->flush_all;
check($client->set("a", { b => [1, 2] }) && $client->get("a")->{b}[1] == 2, "set and get");
check(!defined $client->get("never"), "a miss");
check(!$client->add("a", 1) && $client->add("new", 1), "add");
check($client->replace("a", 2) && !$client->replace("never", 2), "replace");
check($client->set("n", 1) && $client->incr("n", 4) == 5 && $client->decr("n", 2) == 3, "counters");
check($client->set("text", "b") && $client->append("text", "c") && $client->prepend("text", "a") && $client->get("text") eq "abc", "append");
$client->set("m$_", "v$_") for 0 .. 199;
my $found = $client->get_multi(map { "m$_" } 0 .. 219);
check(keys(%$found) == 200 && $found->{m7} eq "v7", "many");
if ($fast) {
    my $got = $client->gets("text");
    check($client->cas("text", $got->[0], "x") && !$client->cas("text", $got->[0], "y"), "cas");
    check($client->touch("text", 100), "touch");
    check((values %{$client->server_versions})[0] =~ /^1\.6\./, "version");
    $client->set_multi(map { ["s$_", $_] } 0 .. 99);
    check(keys(%{$client->get_multi(map { "s$_" } 0 .. 99)}) == 100, "set_multi");
} else {
    check($client->stats(["misc"])->{hosts}{"$host:$port"}{misc}{curr_items} > 0, "stats");
    check($client->stats(["items"])->{hosts}{"$host:$port"}{items} =~ /number/, "stats items");
}
check($client->set("big", "x" x 900_000) && length $client->get("big") == 900_000, "a large one");
check(!$client->set("huge", join "", map { chr int rand 256 } 1 .. 2_000_000), "one that is too large");
check($client->get("m7") eq "v7", "usable behind it");
check($client->delete("a") && !$client->delete("a"), "delete");
$client->flush_all;
check(!defined $client->get("n"), "flush");
print "fine $checked\n";
