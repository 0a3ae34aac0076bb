/* The floor of noticing an exit: reads pids from standard input, waits for each in poll(2) on a pidfd,
   and writes CLOCK_MONOTONIC in nanoseconds when it has seen the end. */

#include "floor.h"

int main(void)
{
    char line[32];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        int fd = open_pidfd(atoi(line));
        if (fd < 0)
            die("pidfd_open");
        puts("waiting");
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, 20000);
        printf("%lld\n", now_ns());
        close(fd);
    }
    return 0;
}
