/* etservice.exe: a service in a process of its own.  TEXT is the service's name.
 *
 * MODE
 *   stop        stops at once
 *   slow        stops in four steps of NUMBER milliseconds, with a checkpoint after each
 *   refuse      does not accept SERVICE_CONTROL_STOP
 *   stuck       says STOP_PENDING and stays there
 */
#include "target.h"

static const struct target *us;
static SERVICE_STATUS_HANDLE status_handle;
static HANDLE stop;

static void report(DWORD state, DWORD checkpoint, DWORD hint_ms)
{
    SERVICE_STATUS status = {0};

    status.dwServiceType = SERVICE_WIN32_OWN_PROCESS;
    status.dwCurrentState = state;
    status.dwCheckPoint = checkpoint;
    status.dwWaitHint = hint_ms;
    if (state == SERVICE_RUNNING && !mode_is(us, L"refuse"))
        status.dwControlsAccepted = SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN;
    SetServiceStatus(status_handle, &status);
}

static DWORD WINAPI on_control(DWORD control, DWORD type, void *data, void *context)
{
    (void)type, (void)data, (void)context;
    say("control %lu", control);
    switch (control) {
    case SERVICE_CONTROL_STOP:
    case SERVICE_CONTROL_SHUTDOWN:
        report(SERVICE_STOP_PENDING, 1, us->number + 1000);
        SetEvent(stop);
        return NO_ERROR;
    case SERVICE_CONTROL_INTERROGATE:
        return NO_ERROR;
    default:
        return ERROR_CALL_NOT_IMPLEMENTED;
    }
}

static void WINAPI service_main(DWORD argc, wchar_t **argv)
{
    DWORD step;

    (void)argc, (void)argv;
    status_handle = RegisterServiceCtrlHandlerExW(us->text, on_control, NULL);
    report(SERVICE_RUNNING, 0, 0);
    say_ready();
    WaitForSingleObject(stop, INFINITE);
    if (mode_is(us, L"stuck"))
        Sleep(INFINITE);
    if (mode_is(us, L"slow"))
        for (step = 0; step < 4; step++) {
            Sleep(us->number);
            report(SERVICE_STOP_PENDING, 2 + step, us->number + 1000);
        }
    say("stopped");
    report(SERVICE_STOPPED, 0, 0);
}

int wmain(int argc, wchar_t **argv)
{
    SERVICE_TABLE_ENTRYW table[2] = {{NULL, NULL}, {NULL, NULL}};

    us = target_begin(argc, argv);
    stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    table[0].lpServiceName = (wchar_t *)us->text;
    table[0].lpServiceProc = service_main;
    if (!StartServiceCtrlDispatcherW(table))
        say("StartServiceCtrlDispatcher failed with %lu", GetLastError());
    return 0;
}
