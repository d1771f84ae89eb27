# IPC::ShareLite: a string of any length in segments that grow, under a lock, in several processes.
use strict;
use warnings;
use IPC::ShareLite qw(:lock);

$| = 1;
my $share = IPC::ShareLite->new(-key => 0x746d, -create => 'yes', -destroy => 'no', -size => 4096) or die "new: $!";
$share->store('0');
my @children = map {
    my $pid = fork() // die;
    if (!$pid) {
        for (1 .. 100) {
            $share->lock(LOCK_EX);
            my $count = length($share->fetch) ? $share->fetch + 1 : 1;
            $share->store($count);
            $share->unlock;
        }
        exec 'true';
    }
    $pid
} 1 .. 3;
waitpid($_, 0) for @children;
print "count ", $share->fetch, "\n";
$share->store('long ' x 10000);
print "length ", length($share->fetch), " segments ", $share->num_segments, "\n";
$share->destroy(1);
undef $share;
