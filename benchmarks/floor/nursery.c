/* Starts sleepers, runs one command, tells what the command cost, and takes every sleeper along when it ends.

   nursery [-n COUNT] [-s NAME] [-x NAME] [-X TITLE] [-u UID] [-a SECONDS] -- COMMAND [ARGUMENT...]

   -n  how many sleepers               -s  their name
   -x  name of one more, the needle    -X  command line of the needle    -u  user id of the needle
   -a  nobody outlives that many seconds

   `{pid}` in an argument of COMMAND is the needle's pid, or that of the first sleeper.
   The result is one JSON object on descriptor 3: seconds of wall clock, user and system time, peak memory in KiB,
   the wait(2) status, and how many sleepers (the needle counted) were there when the command had ended.

   The sleepers' parent is an ancestor of COMMAND, ignores SIGCHLD (so nobody has to reap them) and does nothing else:
   neither side's time is spent on it. COMMAND is the child of a third process, which has nothing to do but to wait for it. */

#include "floor.h"

#include <sys/resource.h>
#include <sys/wait.h>

static char *title_start;
static size_t title_room;

/* Writes over our own arguments, so that neither the sleepers nor we show those of COMMAND. */
static void set_title(const char *text)
{
    size_t length = strlen(text);
    if (length >= title_room)
        length = title_room - 1;
    memset(title_start, 0, title_room);
    memcpy(title_start, text, length);
    char *end = title_start + length + 1;
    prctl(PR_SET_MM, PR_SET_MM_ARG_END, (unsigned long)end, 0, 0); /* without the right to it, zeros follow the title */
}

static pid_t start_sleeper(const char *name, const char *title, long uid, unsigned seconds, const int ready[2])
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid)
        return pid;
    close(ready[0]);
    if (uid >= 0 && setresuid(uid, uid, uid))
        die("setresuid");
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* after setresuid, which clears it */
    if (getppid() != parent)
        _exit(1);
    signal(SIGCHLD, SIG_DFL);
    alarm(seconds);
    prctl(PR_SET_NAME, name);
    set_title(title);
    close(3);
    close(ready[1]); /* the last one to close it tells that all are ready */
    for (;;)
        pause();
}

static double seconds_of(struct timeval t)
{
    return t.tv_sec + t.tv_usec / 1e6;
}

/* Runs COMMAND in a child of its own and writes what it cost to *out*. */
static void run_command(char **command, int out)
{
    signal(SIGCHLD, SIG_DFL);
    double began = now_s();
    pid_t pid = vfork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(command[0], command);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
        die("wait4");
    double wall = now_s() - began;
    dprintf(out, "\"wall_s\": %.6f, \"user_s\": %.6f, \"system_s\": %.6f, \"rss_kib\": %ld, \"status\": %d", wall,
            seconds_of(usage.ru_utime), seconds_of(usage.ru_stime), usage.ru_maxrss, status);
}

static char *with_pid(char *argument, pid_t pid)
{
    char *at = strstr(argument, "{pid}");
    if (!at)
        return strdup(argument);
    char *result = malloc(strlen(argument) + 16);
    sprintf(result, "%.*s%d%s", (int)(at - argument), argument, pid, at + 5);
    return result;
}

int main(int count, char **words)
{
    long sleepers = 0, uid = -1;
    unsigned seconds = 120;
    const char *name = "bench-sleeper", *needle = NULL, *title = "bench-needle --in a-haystack";
    int option;
    while ((option = getopt(count, words, "+n:s:x:X:u:a:")) != -1) {
        switch (option) {
        case 'n': sleepers = atol(optarg); break;
        case 's': name = strdup(optarg); break;
        case 'x': needle = strdup(optarg); break;
        case 'X': title = strdup(optarg); break;
        case 'u': uid = atol(optarg); break;
        case 'a': seconds = atoi(optarg); break;
        default: return 2;
        }
    }
    if (optind >= count)
        return 2;
    char **command = calloc(count - optind + 1, sizeof *command);
    pid_t *pids = calloc(sleepers + 1, sizeof *pids);
    int ready[2], results[2];
    if (pipe(ready) || pipe2(results, O_CLOEXEC))
        die("pipe");
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "bench-nursery");

    for (int i = optind; i < count; i++)
        command[i - optind] = strdup(words[i]); /* the originals are written over by the title */
    title_start = words[0];
    title_room = words[count - 1] + strlen(words[count - 1]) - words[0] + 1;
    for (long i = 0; i < sleepers; i++)
        pids[i] = start_sleeper(name, "bench-sleeper --until the-end", -1, seconds, ready);
    if (needle)
        pids[sleepers++] = start_sleeper(needle, title, uid, seconds, ready);
    set_title("bench-nursery");
    close(ready[1]);
    char byte;
    while (read(ready[0], &byte, 1) > 0)
        ;
    for (char **word = command; *word; word++)
        *word = with_pid(*word, sleepers ? pids[needle ? sleepers - 1 : 0] : getpid());

    pid_t runner = fork();
    if (runner == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "bench-runner");
        close(3);
        run_command(command, results[1]);
        _exit(0);
    }
    if (runner < 0)
        die("fork");
    close(results[1]);
    char line[512];
    ssize_t length = read(results[0], line, sizeof line - 1); /* one write, less than PIPE_BUF */
    if (length <= 0)
        return 3;
    line[length] = 0;
    long left = 0;
    for (long i = 0; i < sleepers; i++)
        left += kill(pids[i], 0) == 0;
    dprintf(3, "{%s, \"left\": %ld}\n", line, left);
    return 0; /* and every sleeper that is left gets PDEATHSIG */
}
