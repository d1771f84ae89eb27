"""Python's sysv_ipc, in several processes. Prints what it saw."""
import os
import signal
import time

import sysv_ipc


def child(body):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = body() or 0
        finally:
            os._exit(code)
    return pid


def reap(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def until(reached):
    for _ in range(2000):
        if reached():
            return
        time.sleep(0.01)
    raise SystemExit("not reached")


key = sysv_ipc.ftok(__file__, 42, silence_warning=True)
print("ftok", key == sysv_ipc.ftok(__file__, 42, silence_warning=True))

# Semaphores.
with sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o600, 1) as semaphore:
    print("held", semaphore.value)
print("given back", semaphore.value)
try:
    sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX)
except sysv_ipc.ExistentialError:
    print("exists")
semaphore.undo = True


def holder():
    semaphore.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


print("killed holder", reap(child(holder)), "value", semaphore.value)
semaphore.acquire()
semaphore.block = False
try:
    semaphore.acquire()
except sysv_ipc.BusyError:
    print("busy")
semaphore.block = True
waiter = child(lambda: semaphore.acquire())
until(lambda: semaphore.waiting_for_nonzero == 1)
print("waits", semaphore.waiting_for_nonzero, semaphore.waiting_for_zero)
semaphore.release()
print("waiter", reap(waiter), "value", semaphore.value, "last is this", semaphore.last_pid == os.getpid())
zero = child(lambda: (semaphore.acquire(), semaphore.Z())[1])
print("zero", reap(zero), oct(semaphore.mode))

# Shared memory.
memory = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, 0o600, size=1 << 20, init_character=b"-")
other = sysv_ipc.attach(memory.id, flags=sysv_ipc.SHM_RDONLY)
writer = child(lambda: memory.write(b"hello from a child", 1000))
print("writer", reap(writer), other.read(18, 1000), memory.size, memory.number_attached, len(memory.read()))
try:
    other.write(b"x")
except OSError as error:
    print("read-only:", type(error).__name__)
counter = memoryview(memory).cast("Q")
counter[0] = 0


def count():
    for _ in range(500):
        with semaphore:
            counter[0] += 1


counters = [child(count) for _ in range(4)]
print("counters", [reap(pid) for pid in counters], counter[0])
counter.release()
memory.remove()
print("removed", memory.number_attached, other.read(5, 1000))
other.detach()
memory.detach()
try:
    memory.attach()
except ValueError:
    print("gone")
semaphore.remove()

# Queues.
queue = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX, mode=0o600, max_message_size=4096)


def send():
    for number in range(3000):
        queue.send(b"%d " % number + b"y" * (number % 700), type=1 + number % 4)


sender = child(send)
received = 0
for number in range(3000):
    message, kind = queue.receive()
    assert message == b"%d " % number + b"y" * (number % 700) and kind == 1 + number % 4, number
    received += len(message)
print("sender", reap(sender), "bytes", received)
for kind in (7, 5, 6):
    queue.send(b"of %d" % kind, type=kind)
print(queue.receive(type=-6), queue.receive(type=7), queue.current_messages)
try:
    queue.receive(block=False, type=1)
except sysv_ipc.BusyError:
    print("none of that type")
filler = child(lambda: [queue.send(b"f" * 4000) for _ in range(9)] and 0)
until(lambda: queue.current_messages >= 4)
drained = [len(queue.receive(type=1)[0]) for _ in range(9)]
print("filler", reap(filler), sum(drained), "left", queue.current_messages, queue.max_size)
interrupted = child(lambda: queue.receive(type=99))
until(lambda: open(f"/proc/{interrupted}/stat").read().split(") ")[1][0] == "S")
os.kill(interrupted, signal.SIGTERM)
print("terminated", reap(interrupted))
queue.remove()
