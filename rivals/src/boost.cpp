// Boost.Interprocess's message_queue with a C interface. Exceptions end here.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstddef>

using boost::interprocess::message_queue;
using boost::interprocess::create_only;
using boost::interprocess::open_only;

extern "C" {

// Creates a queue; false if that fails.
bool boost_queue_create(const char *name, std::size_t count, std::size_t size) {
    try {
        message_queue queue(create_only, name, count, size);
        return true;
    } catch (...) {
        return false;
    }
}

void boost_queue_remove(const char *name) {
    try {
        message_queue::remove(name);
    } catch (...) {
    }
}

// Opens a queue; null if that fails.
message_queue *boost_queue_open(const char *name) {
    try {
        return new message_queue(open_only, name);
    } catch (...) {
        return nullptr;
    }
}

void boost_queue_close(message_queue *queue) { delete queue; }

// 1 if sent, 0 if full, -1 on an error.
int boost_queue_send(message_queue *queue, const void *bytes, std::size_t size, bool spin) {
    try {
        if (spin)
            return queue->try_send(bytes, size, 0) ? 1 : 0;
        queue->send(bytes, size, 0);
        return 1;
    } catch (...) {
        return -1;
    }
}

// Bytes received, -2 if empty, -1 on an error.
std::ptrdiff_t boost_queue_receive(message_queue *queue, void *bytes, std::size_t size, bool spin) {
    try {
        message_queue::size_type came = 0;
        unsigned priority = 0;
        if (spin) {
            if (!queue->try_receive(bytes, size, came, priority))
                return -2;
        } else {
            queue->receive(bytes, size, came, priority);
        }
        return static_cast<std::ptrdiff_t>(came);
    } catch (...) {
        return -1;
    }
}
}
