@rem The command `endtask` on Windows, which runs no `#!` scripts: starts the script of that name beside this file.
@rem Its Python is in the same folder (a virtual environment), or one folder up (Python itself);
@rem elsewhere (pip install --user) the installer has written it into the first line of the script.
@if exist "%~dp0python.exe" goto beside
@if exist "%~dp0..\python.exe" goto above
@setlocal
@set ENDTASK_PYTHON=
@for /f "usebackq delims=" %%p in ("%~dp0endtask") do @if not defined ENDTASK_PYTHON set "ENDTASK_PYTHON=%%p"
@"%ENDTASK_PYTHON:~2%" "%~dp0endtask" %*
@exit /b %errorlevel%
:above
@"%~dp0..\python.exe" "%~dp0endtask" %*
@exit /b %errorlevel%
:beside
@"%~dp0python.exe" "%~dp0endtask" %*
@exit /b %errorlevel%
