/* ettarget.dll: log, guard and proof of how a process ended.
 *
 * A DLL, because its detach routine tells ExitProcess (the loader calls it) from TerminateProcess (nobody does).
 */
#define BUILDING_TARGET_DLL
#include "target.h"

#include <stdarg.h>
#include <stdio.h>

enum { GUARD_MS = 120000 };

static struct target us;
static HANDLE news;

/* What the detach routine asks for. After ExitProcess has cut the other threads, nobody gives it back any more. */
static CRITICAL_SECTION section;
static HANDLE waited_for;
static BOOL section_needed;

static void write_line(const char *text)
{
    char line[700];
    FILETIME now;
    DWORD written;
    HANDLE file;
    int length;

    if (us.log == NULL)
        return;
    GetSystemTimeAsFileTime(&now);
    length = snprintf(line, sizeof line, "%llu %lu %s\n",
                      ((unsigned long long)now.dwHighDateTime << 32) | now.dwLowDateTime,
                      GetCurrentThreadId(), text);
    if (length >= (int)sizeof line)
        length = sizeof line - 1;
    /* FILE_APPEND_DATA alone: each write goes to the end of the file, whoever else writes. */
    file = CreateFileW(us.log, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                       NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return;
    WriteFile(file, line, (DWORD)length, &written, NULL);
    CloseHandle(file);
    if (news != NULL)
        SetEvent(news); /* after the line is there */
}

void say(const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    write_line(text);
}

void say_ready(void)
{
    say("ready pid=%lu", GetCurrentProcessId());
}

static DWORD WINAPI guard(void *end)
{
    WaitForSingleObject(end, GUARD_MS);
    TerminateProcess(GetCurrentProcess(), NOBODY_ENDED_IT);
    return 0;
}

const struct target *target_read(int argc, wchar_t **argv)
{
    wchar_t name[300];
    HANDLE end, thread;

    if (argc < 4)
        ExitProcess(WRONG_ARGUMENTS);
    us.log = argv[1];
    us.event = argv[2];
    us.mode = argv[3];
    us.number = argc > 4 ? wcstoul(argv[4], NULL, 10) : 0;
    us.text = argc > 5 ? argv[5] : L"";
    news = OpenEventW(EVENT_MODIFY_STATE, FALSE, us.event);
    swprintf(name, sizeof name / sizeof *name, L"%ls.end", us.event);
    end = OpenEventW(SYNCHRONIZE, FALSE, name);
    /* Without the event it is a person who started us; the time limit holds all the same. */
    thread = CreateThread(NULL, 0, guard, end != NULL ? end : CreateEventW(NULL, TRUE, FALSE, NULL), 0, NULL);
    if (thread != NULL)
        CloseHandle(thread);
    return &us;
}

void detach_needs(const wchar_t *what)
{
    if (wcscmp(what, L"section") == 0) {
        section_needed = TRUE;
        EnterCriticalSection(&section);
    } else if (wcscmp(what, L"mutex") == 0) {
        waited_for = CreateMutexW(NULL, TRUE, NULL);
    } else if (wcscmp(what, L"event") == 0) {
        waited_for = CreateEventW(NULL, TRUE, FALSE, NULL);
    }
}

BOOL WINAPI DllMain(HINSTANCE module, DWORD reason, void *process_exits)
{
    (void)module;
    if (reason == DLL_PROCESS_ATTACH)
        InitializeCriticalSection(&section);
    if (reason == DLL_PROCESS_DETACH && process_exits != NULL) {
        write_line("detach");
        if (section_needed)
            EnterCriticalSection(&section);
        if (waited_for != NULL)
            WaitForSingleObject(waited_for, INFINITE);
    }
    return TRUE;
}
