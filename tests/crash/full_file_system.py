"""A run on a file system that fills up: `python full_file_system.py FOLDER`, as the root of a name space of its own.

Mounts a small file system on the folder, fills it up while a run goes on, makes room again, and prints what was seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BYTES = 4 * 1024**2
RECORDS = 600


def main(folder: Path) -> None:
    from crash_runs import committed_rows, make_application, until

    from samullm_tui.supervisor.client import ControlClient
    from samullm_tui.supervisor.launch import follow, spawn_supervisor
    from samullm_tui.supervisor.runs import result

    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(folder)], check=True)
    os.environ["SAMULLM_HOME"] = str(folder / "home")
    paths = make_application(folder, RECORDS, speed=60.0)
    spawn_supervisor(paths.run)
    client = ControlClient(paths)
    until(lambda: client.status().outputs >= 20)
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    until(lambda: client.status().trouble != "")
    trouble = client.status().trouble
    # What is in flight may still end; then nothing moves any more.
    began_s = client.status().at_s
    until(lambda: client.status().at_s > began_s + 30)
    before = client.status()
    until(lambda: client.status().at_s > began_s + 60)
    held = [before.outputs, client.status().outputs]
    ballast.unlink()
    for _ in follow(paths.run):
        pass
    end = result(paths.run)
    told = {
        "trouble": trouble,
        "outputs_while_full": held,
        "status": end.status,
        "requests": end.requests,
        "outputs": end.outputs,
        "rows": len(committed_rows(paths)),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
