/* What every target has in common; the code is in target.c, which becomes ettarget.dll.
 *
 * Command line of every target:   PROGRAM LOG EVENT MODE [NUMBER [TEXT]]
 *
 *   LOG     a file; each line is `FILETIME THREAD text`, written in one call, so that several processes may share it
 *   EVENT   name of an auto-reset event that is set after each line: who waits for a line waits on it, and never polls
 *           name + ".end": a manual-reset event; whoever shares it ends at once when it is set
 *   MODE    how the target behaves
 *   NUMBER  mostly milliseconds
 *
 * Exit code 7: it stopped by its own decision.  99: nobody ended it in 120 s, or the test was over.
 */
#ifndef ENDTASK_TARGET_H
#define ENDTASK_TARGET_H

#undef _WIN32_WINNT
#define _WIN32_WINNT 0x0601 /* Windows 7 */
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <stdlib.h>
#include <wchar.h>

#ifdef BUILDING_TARGET_DLL
#define SHARED __declspec(dllexport)
#else
#define SHARED __declspec(dllimport)
#endif

enum { STOPPED_BY_ITSELF = 7, WRONG_ARGUMENTS = 64, NOBODY_ENDED_IT = 99 };

struct target {
    const wchar_t *log;
    const wchar_t *event;
    const wchar_t *mode;
    const wchar_t *text;
    DWORD number;
};

/* Read the command line and start the guard. */
SHARED const struct target *target_read(int argc, wchar_t **argv);

/* Write one line to the log. */
SHARED void say(const char *format, ...) __attribute__((format(gnu_printf, 1, 2)));

/* Tell the laboratory that from now on a request will be heard. */
SHARED void say_ready(void);

/* What the DLL's detach routine will need while the process exits: "section", "mutex", "event" or nothing. */
SHARED void detach_needs(const wchar_t *what);

static inline void say_atexit(void)
{
    say("atexit");
}

/* What every target does first.
 * Here and not in the DLL: a program's own atexit list runs when the program ends itself, a DLL's list at every ExitProcess. */
static inline const struct target *target_begin(int argc, wchar_t **argv)
{
    atexit(say_atexit);
    return target_read(argc, argv);
}

static inline BOOL mode_is(const struct target *target, const wchar_t *mode)
{
    return wcscmp(target->mode, mode) == 0;
}

#endif
