/* ettree.exe: a program that starts others.  All share one log and one end event.
 *
 * MODE
 *   keep      starts NUMBER children that wait, and waits too; a console event ends it and leaves them
 *   manage    the same, but at a console event it ends its children first, and then itself
 *   orphans   starts NUMBER children that wait, and ends at once
 *   chain     starts a program that starts the child that waits and ends at once, as the fork of MSYS does; waits
 *   breeder   starts a child at once, and another one at each console event; a console event does not end it
 *   leaf      only waits
 *   middle    what `chain` starts
 *
 * TEXT may name creation flags for the children: "console", "detached", "no-window", "group", or nothing.
 */
#include "target.h"

#include <stdio.h>

enum { MOST_CHILDREN = 64 };

static const struct target *us;
static HANDLE children[MOST_CHILDREN];
static DWORD count;
static HANDLE stop;

static DWORD creation_flags(void)
{
    if (wcscmp(us->text, L"console") == 0)
        return CREATE_NEW_CONSOLE;
    if (wcscmp(us->text, L"detached") == 0)
        return DETACHED_PROCESS;
    if (wcscmp(us->text, L"no-window") == 0)
        return CREATE_NO_WINDOW;
    if (wcscmp(us->text, L"group") == 0)
        return CREATE_NEW_PROCESS_GROUP;
    return 0;
}

static void start_child(const wchar_t *mode)
{
    wchar_t program[MAX_PATH], line[1500];
    STARTUPINFOW startup = {0};
    PROCESS_INFORMATION child;

    if (count == MOST_CHILDREN)
        return;
    startup.cb = sizeof startup;
    GetModuleFileNameW(NULL, program, MAX_PATH);
    swprintf(line, 1500, L"\"%ls\" \"%ls\" \"%ls\" %ls 0 \"%ls\"", program, us->log, us->event, mode, us->text);
    if (!CreateProcessW(program, line, NULL, NULL, FALSE, creation_flags(), NULL, NULL, &startup, &child)) {
        say("CreateProcess failed with %lu", GetLastError());
        return;
    }
    CloseHandle(child.hThread);
    children[count++] = child.hProcess;
    say("child %lu of %lu", child.dwProcessId, GetCurrentProcessId());
}

static BOOL WINAPI on_control(DWORD event)
{
    say("control %lu", event);
    if (mode_is(us, L"breeder"))
        start_child(L"leaf");
    else
        SetEvent(stop);
    return TRUE;
}

int wmain(int argc, wchar_t **argv)
{
    DWORD i;

    us = target_begin(argc, argv);
    stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (mode_is(us, L"leaf")) {
        say_ready();
        Sleep(INFINITE);
    }
    SetConsoleCtrlHandler(on_control, TRUE);
    for (i = 0; i < (us->number != 0 ? us->number : 1); i++)
        start_child(mode_is(us, L"chain") ? L"middle" : L"leaf");
    if (mode_is(us, L"middle") || mode_is(us, L"orphans"))
        return 0;
    say_ready();
    WaitForSingleObject(stop, INFINITE);
    if (mode_is(us, L"manage"))
        for (i = 0; i < count; i++) {
            TerminateProcess(children[i], 1);
            WaitForSingleObject(children[i], INFINITE);
            say("child ended");
        }
    say("main returns %d", STOPPED_BY_ITSELF);
    return STOPPED_BY_ITSELF;
}
