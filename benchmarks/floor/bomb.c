/* A tree that forks at full rate and can never run away: `bomb NAME ALIVE SECONDS`.

   Never more than ALIVE processes at a time, none later than SECONDS after the start. Parents leave their children behind,
   children fork at once: whoever kills one after the other always leaves somebody who has just been born.
   It begins when its standard input ends, and writes its pid and a newline when the tree has been full for the first time.
   The first process stays. */

#include "floor.h"

#include <sys/mman.h>

struct shared {
    long alive;
    int full;
};

int main(int count, char **words)
{
    if (count < 4)
        return 2;
    long limit = atol(words[2]);
    double deadline = now_s() + atof(words[3]);
    struct shared *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for them: no zombies */
    prctl(PR_SET_NAME, words[1]);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    all->alive = 1;
    pid_t first = getpid();
    unsigned dice = first;
    while (now_s() < deadline) {
        if (__atomic_add_fetch(&all->alive, 1, __ATOMIC_SEQ_CST) > limit) {
            __atomic_sub_fetch(&all->alive, 1, __ATOMIC_SEQ_CST);
            if (getpid() == first && !all->full) {
                all->full = 1;
                dprintf(1, "%d\n", first);
            }
            if (getpid() != first && rand_r(&dice) % 100 < 5)
                break; /* makes room for another one's child: births never end */
            poll(NULL, 0, 1 + rand_r(&dice) % 10);
            continue;
        }
        pid_t pid = fork();
        if (pid < 0)
            __atomic_sub_fetch(&all->alive, 1, __ATOMIC_SEQ_CST);
        else if (pid == 0)
            dice = getpid();
        else if (getpid() != first && rand_r(&dice) % 100 < 30)
            break; /* leaves an orphan */
    }
    __atomic_sub_fetch(&all->alive, 1, __ATOMIC_SEQ_CST);
    _exit(0);
}
