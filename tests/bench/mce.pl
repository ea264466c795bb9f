# The same work by Perl's MCE, two workers.
use strict;
use warnings;
use MCE;
use MCE::Map;
use Time::HiRes qw(time);

$| = 1;

sub report { printf "mce %s %.6g %s\n", @_ }

sub best_map    # CHUNKS CODE ITEMS: the least seconds over the chunk sizes
{
    my ($chunks, $code, $items) = @_;
    my $best;
    for my $chunk (@$chunks) {
        MCE::Map->init(max_workers => 2, chunk_size => $chunk);
        MCE::Map->run($code, @$items[0 .. 1]);
        my $start = time;
        my @out = MCE::Map->run($code, $items);
        my $spent = time - $start;
        die "lost items" if @out != @$items;
        $best = $spent if !defined $best || $spent < $best;
        MCE::Map->finish;
    }
    return $best;
}

my %workloads = (
    W1 => sub { report('map-ints', best_map(['auto', 20000], sub { $_ * $_ & 0xffffffff }, [0 .. 999_999]) * 1e3, 'ns') },
    W3 => sub { report('stream', 0.02 / best_map([1], sub { $_ }, [('12345678') x 20000]), 'M/s') },
    W4 => sub { report('large-map', 1 / 16 / best_map([1], sub { $_ }, [map { 'x' x (4 << 20) } 1 .. 16]), 'GiB/s') },
    W6 => sub {
        my @spent;
        for (1 .. 5) {
            my $start = time;
            my $mce = MCE->new(max_workers => 2, user_func => sub { });
            $mce->process([1, 2], { chunk_size => 1 });
            $mce->shutdown;
            push @spent, time - $start;
        }
        report('create', (sort { $a <=> $b } @spent)[2] * 1e3, 'ms');
    },
);

for (@ARGV) {
    $workloads{$_}->() if $workloads{$_};
}
