/* etconsole.exe: a console program.
 *
 * MODE
 *   none             no control handler
 *   true             a handler that says "handled" and lets the program live
 *   false            a handler that passes the event on
 *   graceful         a handler that wakes the main thread and holds the event until that has cleaned up for NUMBER ms
 *   slow             a handler that takes NUMBER ms and then says "handled"
 *   exit             a handler that calls exit(9)
 *   ignore           ignores Ctrl+C (the attribute that children inherit)
 *   ignore-handler   the same, and a handler
 *   enable           takes back an inherited "ignore", and has a handler that passes the event on
 *   event            listens to a stop event of its own: Local\endtask.stop.<pid>.<creation time, 16 hexadecimal digits>
 *                    and cleans up for NUMBER ms when that is set; it has no event by which it could say that it has heard
 *   event-deaf       has that event and does nothing about it
 *   event-deaf-ack   the same, and the event .ack by which it would say that it has heard
 *   event-foreign    has a mutex of that name
 *   stdin            reads standard input to its end
 *   apc              waits alertably
 *   window           has a window, too; WM_CLOSE ends it
 *   hold-section, hold-mutex, hold-event    its DLL needs that while the process exits
 *   code             ends at once with exit code NUMBER
 */
#include "target.h"

#include <stdio.h>
#include <string.h>

static const struct target *us;
static HANDLE stop; /* set: the main thread shall end */
static HANDLE never;

static BOOL WINAPI on_control(DWORD event)
{
    say("control %lu", event);
    if (mode_is(us, L"true"))
        return TRUE;
    if (mode_is(us, L"slow")) {
        Sleep(us->number);
        say("control %lu handled", event);
        return TRUE;
    }
    if (mode_is(us, L"graceful")) {
        SetEvent(stop);
        WaitForSingleObject(never, INFINITE); /* until main has returned; the system may kill us before, as documented */
        return TRUE;
    }
    if (mode_is(us, L"exit"))
        exit(9);
    return FALSE;
}

static BOOL starts_with(const wchar_t *text, const wchar_t *begin)
{
    return wcsncmp(text, begin, wcslen(begin)) == 0;
}

static void set_handlers(void)
{
    if (starts_with(us->mode, L"ignore"))
        SetConsoleCtrlHandler(NULL, TRUE);
    if (mode_is(us, L"enable"))
        SetConsoleCtrlHandler(NULL, FALSE);
    if (mode_is(us, L"true") || mode_is(us, L"false") || mode_is(us, L"graceful") || mode_is(us, L"slow") ||
        mode_is(us, L"exit") || mode_is(us, L"ignore-handler") || mode_is(us, L"enable"))
        SetConsoleCtrlHandler(on_control, TRUE);
}

/* The name that endtask looks for: only this very process can have it, even if its pid is used again. */
static void make_stop_event(void)
{
    wchar_t name[80];
    FILETIME created, exited, kernel, user;

    GetProcessTimes(GetCurrentProcess(), &created, &exited, &kernel, &user);
    swprintf(name, 80, L"Local\\endtask.stop.%lu.%016llx", GetCurrentProcessId(),
             ((unsigned long long)created.dwHighDateTime << 32) | created.dwLowDateTime);
    if (mode_is(us, L"event-foreign"))
        CreateMutexW(NULL, FALSE, name);
    else if (mode_is(us, L"event-deaf") || mode_is(us, L"event-deaf-ack"))
        CreateEventW(NULL, TRUE, FALSE, name);
    else
        stop = CreateEventW(NULL, TRUE, FALSE, name);
    if (mode_is(us, L"event-deaf-ack"))
        CreateEventW(NULL, TRUE, FALSE, wcscat(name, L".ack"));
}

static void read_to_end(void)
{
    char buffer[64];
    DWORD count;

    while (ReadFile(GetStdHandle(STD_INPUT_HANDLE), buffer, sizeof buffer, &count, NULL) && count > 0)
        say("stdin %lu bytes", count);
    say("stdin ended with error %lu", GetLastError());
}

static LRESULT CALLBACK on_message(HWND window, UINT message, WPARAM w, LPARAM l)
{
    if (message == WM_CLOSE)
        say("WM_CLOSE");
    if (message == WM_DESTROY)
        PostQuitMessage(STOPPED_BY_ITSELF);
    return DefWindowProcW(window, message, w, l); /* its answer to WM_CLOSE is DestroyWindow */
}

static void show_window(void)
{
    WNDCLASSW class = {0};
    MSG message;

    class.lpfnWndProc = on_message;
    class.hInstance = GetModuleHandleW(NULL);
    class.lpszClassName = L"endtask console target";
    RegisterClassW(&class);
    CreateWindowExW(0, class.lpszClassName, L"console with a window", WS_OVERLAPPEDWINDOW | WS_VISIBLE, 50, 50, 240,
                    120, NULL, NULL, class.hInstance, NULL);
    while (PeekMessageW(&message, NULL, 0, 0, PM_REMOVE))
        DispatchMessageW(&message);
    say_ready();
    while (GetMessageW(&message, NULL, 0, 0) > 0)
        DispatchMessageW(&message);
}

int wmain(int argc, wchar_t **argv)
{
    us = target_begin(argc, argv);
    if (mode_is(us, L"code"))
        return (int)us->number;
    stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    never = CreateEventW(NULL, TRUE, FALSE, NULL);
    set_handlers();
    if (starts_with(us->mode, L"event"))
        make_stop_event();
    if (starts_with(us->mode, L"hold-"))
        detach_needs(us->mode + wcslen(L"hold-"));

    if (mode_is(us, L"window")) {
        show_window();
    } else if (mode_is(us, L"stdin")) {
        say_ready();
        read_to_end();
    } else if (mode_is(us, L"apc")) {
        say_ready();
        while (WaitForSingleObjectEx(stop, INFINITE, TRUE) == WAIT_IO_COMPLETION)
            say("apc");
    } else {
        say_ready();
        WaitForSingleObject(stop, INFINITE);
        say("stop heard");
        if (mode_is(us, L"graceful") || mode_is(us, L"event"))
            Sleep(us->number); /* what a real program would save now */
    }
    say("main returns %d", STOPPED_BY_ITSELF);
    return STOPPED_BY_ITSELF;
}
