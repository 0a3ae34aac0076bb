/* etwindow.exe: a program with windows (GUI subsystem); etwindowc.exe: the same in the console subsystem.
 *
 * MODE
 *   close         closes when asked
 *   two           two main windows, each closes when asked; ends with the last one
 *   swallow       ignores WM_CLOSE
 *   dialog        asks "Save changes?" (Yes, No, Cancel) when asked to close
 *   dialog-open   has that question on the screen already
 *   veto          answers FALSE to WM_QUERYENDSESSION, with a reason
 *   save          swallows WM_CLOSE, but saves and ends on WM_ENDSESSION
 *   hide          hides in the tray when asked
 *   slow          needs NUMBER milliseconds to close
 *   hang          has stopped to look at its messages
 *   hidden        a top-level window that was never shown
 *   owned         a hidden owner, windows that it owns, a tool window, a disabled window, a child window
 *   message-only  a message-only window
 *   none          neither window nor message queue
 *   queue         a message queue, no window
 */
#include "target.h"

#include <string.h>

enum { DIALOG_IS_OPEN = WM_APP + 1 };

static const struct target *us;
static HWND main_window;
static int main_windows;
static BOOL asking;

static HWND make_window(const wchar_t *title, DWORD style, DWORD extended, HWND parent)
{
    HWND window = CreateWindowExW(extended, L"endtask target", title, style, 50, 50, 240, 120, parent, NULL,
                                  GetModuleHandleW(NULL), NULL);
    if (window == NULL)
        say("CreateWindowEx failed with %lu", GetLastError());
    return window;
}

/* A message box tells nobody that it is on the screen.
 * When it is created, this hook posts a message; only the box's own message loop can take it from the queue. */
static LRESULT CALLBACK dialog_hook(int code, WPARAM window, LPARAM what)
{
    wchar_t class_name[20] = L"";

    if (code == HCBT_CREATEWND) {
        GetClassNameW((HWND)window, class_name, 20);
        if (wcscmp(class_name, L"#32770") == 0)
            PostMessageW(main_window, DIALOG_IS_OPEN, 0, 0);
    }
    return CallNextHookEx(NULL, code, window, what);
}

/* Ask the user. Returns whether the window may close. */
static BOOL may_close(HWND window)
{
    HHOOK hook;
    int answer;

    if (asking)
        return FALSE;
    asking = TRUE;
    hook = SetWindowsHookExW(WH_CBT, dialog_hook, NULL, GetCurrentThreadId());
    answer = MessageBoxW(window, L"Save changes to Untitled?", L"etwindow", MB_YESNOCANCEL | MB_ICONWARNING);
    UnhookWindowsHookEx(hook);
    asking = FALSE;
    switch (answer) {
    case IDYES:
        say("answer yes: saved");
        return TRUE;
    case IDNO:
        say("answer no: not saved");
        return TRUE;
    default:
        say("answer %d: stays", answer);
        return answer != IDCANCEL; /* WM_QUIT ends the box with an answer that it has no button for */
    }
}

static LRESULT on_close(HWND window)
{
    char title[60] = "";

    GetWindowTextA(window, title, sizeof title);
    say("WM_CLOSE \"%s\"", title);
    if (mode_is(us, L"swallow") || mode_is(us, L"save"))
        return 0;
    if (mode_is(us, L"hide")) {
        ShowWindow(window, SW_HIDE);
        say("hidden");
        return 0;
    }
    if (mode_is(us, L"slow"))
        Sleep(us->number);
    if ((mode_is(us, L"dialog") || mode_is(us, L"dialog-open")) && !may_close(window))
        return 0;
    DestroyWindow(window);
    return 0;
}

static LRESULT CALLBACK on_message(HWND window, UINT message, WPARAM w, LPARAM l)
{
    switch (message) {
    case DIALOG_IS_OPEN:
        say("dialog open");
        if (mode_is(us, L"dialog-open"))
            say_ready();
        return 0;
    case WM_CLOSE:
        return on_close(window);
    case WM_SYSCOMMAND:
        if ((w & 0xfff0) == SC_CLOSE)
            say("SC_CLOSE");
        break;
    case WM_QUERYENDSESSION:
        say("WM_QUERYENDSESSION 0x%lx", (unsigned long)l);
        return !mode_is(us, L"veto");
    case WM_ENDSESSION:
        say("WM_ENDSESSION %u 0x%lx", (unsigned)w, (unsigned long)l);
        if (w && mode_is(us, L"save")) {
            say("saved");
            DestroyWindow(window);
        }
        return 0;
    case WM_DESTROY:
        say("WM_DESTROY");
        if (window == main_window || (mode_is(us, L"two") && --main_windows == 0))
            PostQuitMessage(STOPPED_BY_ITSELF);
        return 0;
    }
    return DefWindowProcW(window, message, w, l);
}

static int message_loop(void)
{
    MSG message;

    while (GetMessageW(&message, NULL, 0, 0) > 0) {
        if (message.hwnd == NULL)
            say("thread message 0x%x", message.message);
        TranslateMessage(&message);
        DispatchMessageW(&message);
    }
    say("loop left with %u", (unsigned)message.wParam);
    return STOPPED_BY_ITSELF;
}

static void drain_queue(void)
{
    MSG message;

    while (PeekMessageW(&message, NULL, 0, 0, PM_REMOVE))
        DispatchMessageW(&message);
}

static void make_windows(void)
{
    const DWORD visible = WS_OVERLAPPEDWINDOW | WS_VISIBLE;

    if (mode_is(us, L"message-only")) {
        main_window = make_window(L"message only", 0, 0, HWND_MESSAGE);
    } else if (mode_is(us, L"hidden")) {
        main_window = make_window(L"hidden", WS_OVERLAPPEDWINDOW, 0, NULL);
    } else if (mode_is(us, L"owned")) {
        main_window = make_window(L"owner", WS_OVERLAPPEDWINDOW, 0, NULL);
        make_window(L"owned", visible, 0, main_window);
        make_window(L"tool", WS_POPUP | WS_VISIBLE, WS_EX_TOOLWINDOW, NULL);
        EnableWindow(make_window(L"disabled", visible, 0, NULL), FALSE);
        make_window(L"child", WS_CHILD | WS_VISIBLE, 0, main_window);
    } else if (mode_is(us, L"two")) {
        main_windows = 2;
        make_window(L"first", visible, 0, NULL);
        make_window(L"second", visible, 0, NULL);
    } else {
        main_window = make_window(*us->text ? us->text : L"main", visible, 0, NULL);
    }
    if (mode_is(us, L"veto"))
        ShutdownBlockReasonCreate(main_window, L"etwindow burns a disc");
}

static int run(void)
{
    WNDCLASSW class = {0};
    MSG message;

    class.lpfnWndProc = on_message;
    class.hInstance = GetModuleHandleW(NULL);
    class.lpszClassName = L"endtask target";
    if (mode_is(us, L"none")) {
        say_ready();
        Sleep(INFINITE);
    }
    if (mode_is(us, L"queue")) {
        PeekMessageW(&message, NULL, 0, 0, PM_NOREMOVE); /* this makes the queue */
        say_ready();
        return message_loop();
    }
    RegisterClassW(&class);
    make_windows();
    drain_queue(); /* what showing the windows brought */
    if (mode_is(us, L"dialog-open")) {
        if (may_close(main_window))
            return STOPPED_BY_ITSELF;
        return message_loop();
    }
    say_ready();
    if (mode_is(us, L"hang"))
        Sleep(INFINITE);
    return message_loop();
}

int wmain(int argc, wchar_t **argv)
{
    int code;

    us = target_begin(argc, argv);
    code = run();
    say("main returns %d", code);
    return code;
}
