/* The floor of a selection: one small look at each process of the machine.

   selector name NAME      whole name (comm)
   selector cmdline TEXT   text in the command line
   selector user UID       effective user id */

#include "floor.h"

static int in_command_line(const char *pid, const char *text)
{
    char line[4096];
    ssize_t length = read_proc(pid, "cmdline", line, sizeof line);
    return length > 0 && memmem(line, length, text, strlen(text)) != NULL;
}

static int is_owned(DIR *proc, const char *pid, uid_t uid)
{
    struct stat folder;
    return fstatat(dirfd(proc), pid, &folder, 0) == 0 && folder.st_uid == uid;
}

int main(int count, char **words)
{
    if (count < 3)
        return 2;
    DIR *proc = opendir("/proc");
    if (!proc)
        die("/proc");
    pid_t self = getpid();
    long found = 0;
    for (const char *pid; (pid = next_pid(proc));) {
        int fits = words[1][0] == 'n'   ? is_named(pid, words[2])
                   : words[1][0] == 'c' ? in_command_line(pid, words[2])
                                        : is_owned(proc, pid, atoi(words[2]));
        if (fits && atoi(pid) != self) {
            printf("%s\n", pid);
            found++;
        }
    }
    return found == 0;
}
