# IPC::Shareable: tied variables in shared memory, locked by semaphores, in two processes.
use strict;
use warnings;
use IPC::Shareable qw(:lock);

$| = 1;
my %options = (key => 'tmbl', create => 1, exclusive => 0, mode => 0600, destroy => 0, size => 65536);
tie my %hash, 'IPC::Shareable', \%options or die "tie: $!";
%hash = (count => 0, words => 'none');
my @children = map {
    my $number = $_;
    my $pid = fork() // die;
    if (!$pid) {
        for (1 .. 100) {
            (tied %hash)->shlock(LOCK_EX);
            $hash{count} = $hash{count} + 1;
            (tied %hash)->shunlock;
        }
        exec 'true';
    }
    $pid
} 1 .. 3;
waitpid($_, 0) for @children;
print "count $hash{count} words $hash{words} keys ", join(' ', sort keys %hash), "\n";
IPC::Shareable->clean_up_all;
