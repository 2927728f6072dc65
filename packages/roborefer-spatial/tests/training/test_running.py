import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from roborefer_spatial.training.running import run_logged


def python(code):
    return [sys.executable, "-u", "-c", code]


def test_output_is_shown_and_kept_and_the_status_is_the_programs(tmp_path, capfdbinary):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    assert run_logged(python(code), tmp_path / "deep/log") == 7
    assert (tmp_path / "deep/log").read_bytes() == b"out\nerr\n"
    assert capfdbinary.readouterr().out == b"out\nerr\n"


def test_the_log_is_appended_to(tmp_path):
    for word in "ab":
        assert run_logged(python(f"print('{word}')"), tmp_path / "log") == 0
    assert (tmp_path / "log").read_text() == "a\nb\n"


def test_a_signal_becomes_a_status(tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_logged(python(code), tmp_path / "log") == 128 + signal.SIGKILL


def test_an_interrupt_reaches_the_program(tmp_path):
    lines = ["import signal, sys, time", "signal.signal(signal.SIGTERM, lambda *a: sys.exit(5))"]
    lines += ["print('ready')", "time.sleep(60)"]

    def interrupt():
        while not (tmp_path / "log").exists() or b"ready" not in (tmp_path / "log").read_bytes():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    assert run_logged(python("\n".join(lines)), tmp_path / "log") == 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ends a child with its parent, others do not")
def test_the_command_ends_when_this_process_is_killed(tmp_path):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    code = "import sys; from pathlib import Path; from roborefer_spatial.training.running import run_logged; "
    code += f"run_logged([sys.executable, '-c', {child!r}], Path({str(tmp_path / 'log')!r}))"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert gone(pid)


def gone(pid):
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.1)
    return False
