/* Scripts\python.exe of a venv, as CPython's PC/venvlauncher.c: runs the python.exe of the folder
   that pyvenv.cfg calls `home`, which finds the venv again by __PYVENV_LAUNCHER__. */
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

static int read_home(const wchar_t *self, wchar_t *home, int length)
{
    wchar_t config[1100];
    char line[2048];
    int found = 0;
    wcscpy(config, self);
    *wcsrchr(config, L'\\') = 0; /* python.exe */
    *wcsrchr(config, L'\\') = 0; /* Scripts */
    wcscat(config, L"\\pyvenv.cfg");
    FILE *file = _wfopen(config, L"r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        char *value = strchr(line, '=');
        if (!value || strncmp(line, "home", 4))
            continue;
        value++;
        while (*value == ' ')
            value++;
        value[strcspn(value, "\r\n")] = 0;
        found = MultiByteToWideChar(CP_UTF8, 0, value, -1, home, length);
    }
    fclose(file);
    return found;
}

int wmain(void)
{
    wchar_t self[1024], base[1100] = L"";
    STARTUPINFOW startup = {sizeof startup};
    PROCESS_INFORMATION process;
    DWORD code = 101;
    GetModuleFileNameW(NULL, self, 1024);
    if (!read_home(self, base, 1000)) {
        fprintf(stderr, "failed to locate pyvenv.cfg\n");
        return 106;
    }
    wcscat(base, L"\\python.exe");
    if (GetFileAttributesW(base) == INVALID_FILE_ATTRIBUTES) {
        fwprintf(stderr, L"No Python at '\"%ls'\n", base);
        return 103;
    }
    SetEnvironmentVariableW(L"__PYVENV_LAUNCHER__", self);
    GetStartupInfoW(&startup);
    HANDLE job = CreateJobObjectW(NULL, NULL);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
    limits.BasicLimitInformation.LimitFlags =
        JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK;
    SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    if (!CreateProcessW(base, GetCommandLineW(), NULL, NULL, TRUE, 0, NULL, NULL, &startup,
                        &process)) {
        fwprintf(stderr, L"Unable to create process using '%ls'\n", base);
        return 101;
    }
    AssignProcessToJobObject(job, process.hProcess);
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &code);
    return code;
}
