# Perl's own calls and the IPC::SysV family, in two processes. Prints what it saw.
use strict;
use warnings;
use IPC::SysV qw(IPC_PRIVATE IPC_CREAT IPC_EXCL IPC_NOWAIT IPC_RMID IPC_STAT S_IRUSR S_IWUSR
                 SEM_UNDO SHM_RDONLY ftok shmat shmdt memread memwrite);
use IPC::Msg;
use IPC::Semaphore;
use IPC::SharedMem;
use Errno qw(ENOMSG EIDRM EEXIST EINVAL EAGAIN);

$| = 1;
sub child { my ($body) = @_; my $pid = fork() // die "fork: $!"; return $pid if $pid; $body->(); exec 'true' }
sub reap { my ($pid) = @_; waitpid($pid, 0) == $pid or die "waitpid: $!"; return $? }

my $key = ftok($0, 7) // die "ftok: $!";
print "ftok ", (ftok($0, 7) == $key && ftok($0, 8) != $key ? "same" : "different"), "\n";

# Queues: the built-in calls in the parent, the class in the child.
my $queue = IPC::Msg->new($key, IPC_CREAT | IPC_EXCL | 0600) or die "msgget: $!";
print "exists ", (defined(IPC::Msg->new($key, IPC_CREAT | IPC_EXCL | 0600)) ? "no" : $! == EEXIST ? "yes" : $!), "\n";
my $writer = child(sub {
    my $mine = msgget($key, 0600) // die "msgget: $!";
    for my $number (1 .. 2000) {
        msgsnd($mine, pack("l! a*", 1 + $number % 3, "message $number " . "x" x ($number % 900)), 0) or die "msgsnd: $!";
    }
});
my ($sum, $last) = (0, 0);
for (1 .. 2000) {
    my $type = $queue->rcv(my $text, 2048, 0) or die "msgrcv: $!";
    my ($number, $tail) = $text =~ /^message (\d+) (x*)$/ or die "damaged: $text";
    die "type" unless $type == 1 + $number % 3 && length($tail) == $number % 900;
    die "order" unless $number == $last + 1;
    $last = $number;
    $sum += length $text;
}
print "writer ", reap($writer), " bytes $sum\n";
$queue->snd($_, "type $_") or die for 5, 3, 9;
my $three;
$queue->rcv($three, 100, -5) == 3 or die "lowest type: $three";
print "lowest $three; type 4: ", ($queue->rcv(my $none, 100, 4, IPC_NOWAIT) ? "some" : $! == ENOMSG ? "none" : $!), "\n";
my $stat = $queue->stat or die "stat: $!";
printf "queue mode %o qnum %d qbytes %d lspid %s lrpid %s\n", $stat->mode & 0777, $stat->qnum, $stat->qbytes,
    ($stat->lspid == $$ ? "own" : "other"), ($stat->lrpid == $$ ? "own" : "other");
$queue->set(mode => 0640, qbytes => 8000) or die "set: $!";
$stat = $queue->stat;
printf "set mode %o qbytes %d\n", $stat->mode & 0777, $stat->qbytes;
my $waits = child(sub { my $type = $queue->rcv(my $text, 10, 77); exit(defined $type ? 1 : $! == EIDRM ? 42 : 2) });
until (-e "/proc/$waits/stat" && (split ' ', do { local (@ARGV, $/) = "/proc/$waits/stat"; <> })[2] eq 'S') { select undef, undef, undef, 0.01 }
$queue->remove or die "remove: $!";
print "removed under a receiver: ", reap($waits) >> 8, "\n";

# Semaphores: a counter that four processes raise, guarded by a semaphore with undo.
my $sems = IPC::Semaphore->new(IPC_PRIVATE, 3, S_IRUSR | S_IWUSR | IPC_CREAT) or die "semget: $!";
$sems->setall(1, 0, 5) or die "setall: $!";
print "all ", join(' ', $sems->getall), "\n";
my $memory = IPC::SharedMem->new(IPC_PRIVATE, 4096, 0600) or die "shmget: $!";
$memory->attach or die "shmat: $!";
$memory->write(pack('L', 0), 0, 4) or die "write: $!";
my @raisers = map { child(sub {
    for (1 .. 500) {
        $sems->op(0, -1, SEM_UNDO) or die "semop: $!";
        my $count = unpack 'L', $memory->read(0, 4);
        $memory->write(pack('L', $count + 1), 0, 4);
        $sems->op(0, 1, SEM_UNDO) or die "semop: $!";
    }
}) } 1 .. 4;
print "raisers ", join(' ', map { reap($_) } @raisers), " count ", unpack('L', $memory->read(0, 4)), "\n";
my $dies = child(sub { $sems->op(0, -1, SEM_UNDO, 2, -3, SEM_UNDO, 1, 7, 0) or die; kill KILL => $$ });
printf "killed by %d; values %s\n", reap($dies) & 127, join(' ', $sems->getall);
print "not now: ", ($sems->op(0, -2, IPC_NOWAIT) ? "done" : $! == EAGAIN ? "again" : $!), " zero ", $sems->getzcnt(0), " more ", $sems->getncnt(0), " pid ", ($sems->getpid(2) > 0 ? "known" : "none"), "\n";
$sems->setval(1, 4) or die; print "value ", $sems->getval(1), " of ", $sems->stat->nsems, "\n";
$sems->remove or die "remove: $!";
print "gone: ", ($sems->op(0, 1, 0) ? "no" : $! == EINVAL ? "yes" : $!), "\n";

# Segments: built-in shmread and shmwrite beside an attach; deferred destruction.
my $id = $memory->id;
shmwrite($id, "from shmwrite", 100, 13) or die "shmwrite: $!";
print "read ", $memory->read(100, 13), "\n";
my $address = shmat($id, undef, SHM_RDONLY) or die "shmat: $!";
memread($address, my $seen, 100, 13) or die "memread: $!";
$stat = $memory->stat;
printf "seen %s; segment size %d attaches %d mode %o\n", $seen, $stat->segsz, $stat->nattch, $stat->mode & 0777;
$memory->remove or die "remove: $!";
my $after = child(sub { exit($memory->read(100, 4) eq 'from' ? 42 : 1) });
print "after removal: ", reap($after) >> 8, " ", $memory->read(105, 8), "\n";
defined shmdt($address) or die "shmdt: $!";
defined $memory->detach or die "detach: $!";
print "gone: ", (shmread($id, my $rest, 0, 1) ? "no" : $! == EINVAL ? "yes" : $!), "\n";
