<?php
// PHP's sysvmsg, sysvsem, sysvshm and shmop, in several processes. Prints what it saw. The command
// line's PHP may lack pcntl, so that the other processes are started by name.
error_reporting(E_ALL);
$role = $argv[1] ?? 'parent';
$key = ftok(__FILE__, 'q');

if ($role === 'sender') {
    $queue = msg_get_queue($key);
    for ($number = 0; $number < 1000; $number++) {
        msg_send($queue, 1 + $number % 5, ['number' => $number, 'tail' => str_repeat('z', $number % 600)], true, true, $error) or exit(1);
    }
    exit(0);
}
if ($role === 'counter') {
    $semaphore = sem_get($key, 1);
    $memory = shm_attach($key);
    for ($round = 0; $round < 300; $round++) {
        sem_acquire($semaphore) or exit(1);
        shm_put_var($memory, 1, shm_get_var($memory, 1) + 1);
        sem_release($semaphore) or exit(1);
    }
    exit(0);
}
if ($role === 'holder') {
    $semaphore = sem_get($key, 1);
    sem_acquire($semaphore) or exit(1);
    exit(0); // The semaphore comes back by itself.
}

function start(string $role) {
    return proc_open([PHP_BINARY, __FILE__, $role], [1 => ['pipe', 'w'], 2 => STDERR], $pipes) ?: exit("no process\n");
}

// Queues.
echo 'exists before: ', var_export(msg_queue_exists($key), true), "\n";
$queue = msg_get_queue($key, 0600);
$sender = start('sender');
$bytes = 0;
for ($number = 0; $number < 1000; $number++) {
    msg_receive($queue, 0, $type, 4096, $message, true, 0, $error) or exit("msg_receive: $error\n");
    if ($message['number'] !== $number || $type !== 1 + $number % 5) exit("order at $number\n");
    $bytes += strlen($message['tail']);
}
echo 'sender ', proc_close($sender), " bytes $bytes\n";
foreach ([8, 6, 7] as $type) msg_send($queue, $type, "of $type", false);
msg_receive($queue, -7, $type, 100, $message, false);
echo "lowest $type $message\n";
var_dump(msg_receive($queue, 1, $type, 100, $message, false, MSG_IPC_NOWAIT, $error), $error === MSG_ENOMSG);
var_dump(msg_receive($queue, 8, $type, 2, $message, false, MSG_NOERROR), $message);
$stat = msg_stat_queue($queue);
printf("mode %o qnum %d qbytes %d own %s\n", $stat['msg_perm.mode'], $stat['msg_qnum'], $stat['msg_qbytes'], var_export($stat['msg_lspid'] === getmypid(), true));
var_dump(msg_set_queue($queue, ['msg_perm.mode' => 0640, 'msg_qbytes' => 4000]), msg_stat_queue($queue)['msg_qbytes']);
var_dump(@msg_send($queue, 1, str_repeat('x', 5000), false, false, $error), $error > 0);
var_dump(msg_remove_queue($queue), msg_queue_exists($key));

// Semaphores, and variables in a segment.
$semaphore = sem_get($key, 1, 0600);
$memory = shm_attach($key, 20000, 0600);
var_dump(shm_has_var($memory, 1), shm_put_var($memory, 1, 0), shm_put_var($memory, 2, ['a' => [1, 2, 3]]), shm_get_var($memory, 2));
$counters = [start('counter'), start('counter'), start('counter')];
echo 'counters ', implode(' ', array_map('proc_close', $counters)), ' count ', shm_get_var($memory, 1), "\n";
echo 'holder ', proc_close(start('holder')), ' then ', var_export(sem_acquire($semaphore, true), true), "\n";
var_dump(sem_acquire($semaphore, true), sem_release($semaphore), sem_remove($semaphore));
var_dump(@shm_put_var($memory, 3, str_repeat('l', 30000)), shm_remove_var($memory, 2), shm_has_var($memory, 2), shm_remove($memory), shm_detach($memory));

// Bare segments.
$segment = shmop_open($key, 'n', 0600, 10000);
var_dump(shmop_size($segment), shmop_write($segment, 'hello', 9990), @shmop_open($key, 'n', 0600, 10000));
$reader = shmop_open($key, 'a', 0, 0);
var_dump(shmop_read($reader, 9990, 5), shmop_delete($segment), shmop_read($reader, 9990, 5));
unset($segment, $reader);
var_dump(@shmop_open($key, 'a', 0, 0));
