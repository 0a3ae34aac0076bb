/* Ends by itself and says when: reads one line "MILLISECONDS" from standard input, waits that long,
   writes CLOCK_MONOTONIC in nanoseconds to standard output as its last act, and exits. */

#include "floor.h"

int main(void)
{
    prctl(PR_SET_NAME, "bench-mortal");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
    char line[32];
    ssize_t length = read(0, line, sizeof line - 1);
    if (length <= 0)
        return 1;
    line[length] = 0;
    double wait_s = atof(line) / 1e3;
    struct timespec pause = {(time_t)wait_s, (long)((wait_s - (time_t)wait_s) * 1e9)};
    nanosleep(&pause, NULL);
    char text[32];
    int size = sprintf(text, "%lld\n", now_ns());
    if (write(1, text, size) != size)
        return 1;
    _exit(0);
}
