/* The floor of a stop: find by name, hold by pidfd, ask by TERM, wait on one epoll until every one has exited.

   stopper NAME     all processes of that name
   stopper -p PID   that process

   No identity is checked twice, no tree is read, nothing is reported but the number: what any tool has to do at least. */

#include "floor.h"

#include <sys/epoll.h>
#include <sys/resource.h>

enum { AT_ONCE = 4096 };

int main(int count, char **words)
{
    if (count < 2)
        return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    long room = 1024, found = 0;
    int *held = malloc(room * sizeof *held);
    if (!strcmp(words[1], "-p")) {
        if (count < 3 || (held[found++] = open_pidfd(atoi(words[2]))) < 0)
            die("pidfd_open");
    } else {
        DIR *proc = opendir("/proc");
        for (const char *pid; (pid = next_pid(proc));) {
            if (!is_named(pid, words[1]))
                continue;
            int fd = open_pidfd(atoi(pid));
            if (fd < 0)
                continue;
            if (found == room)
                held = realloc(held, (room *= 2) * sizeof *held);
            held[found++] = fd;
        }
        closedir(proc);
    }
    int waiter = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < found; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = held[i]};
        epoll_ctl(waiter, EPOLL_CTL_ADD, held[i], &event);
        send_signal(held[i], SIGTERM);
    }
    struct epoll_event events[AT_ONCE];
    for (long left = found; left > 0;) {
        int ready = epoll_wait(waiter, events, AT_ONCE, 20000);
        if (ready <= 0)
            return 1;
        left -= ready;
    }
    printf("%ld\n", found);
    return found == 0;
}
