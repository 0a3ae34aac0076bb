/* What the small programs share. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline void die(const char *what)
{
    perror(what);
    exit(3);
}

static inline double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static inline long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline int open_pidfd(pid_t pid)
{
    return syscall(SYS_pidfd_open, pid, 0);
}

static inline int send_signal(int pidfd, int number)
{
    return syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

/* Reads /proc/PID/FILE in one read; returns its length, -1 if the process has gone. */
static inline ssize_t read_proc(const char *pid, const char *file, char *into, size_t room)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t length = read(fd, into, room);
    close(fd);
    return length;
}

/* Whether the process's name (comm) is *name*. */
static inline int is_named(const char *pid, const char *name)
{
    char comm[80];
    ssize_t length = read_proc(pid, "comm", comm, sizeof comm);
    return length > 0 && (size_t)length == strlen(name) + 1 && !memcmp(comm, name, length - 1);
}

/* Returns the next pid in /proc as text, NULL after the last one. */
static inline const char *next_pid(DIR *proc)
{
    struct dirent *entry;
    while ((entry = readdir(proc)))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            return entry->d_name;
    return NULL;
}
