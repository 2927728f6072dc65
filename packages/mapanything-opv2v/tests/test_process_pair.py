"""Two processes through gloo: one writes, both draw as many steps, both refuse alike."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("process_pair.py")


def test_two_processes_agree(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    env.update({"TORCH_DIST_TIMEOUT": "77", "OMP_NUM_THREADS": "1"})
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path)],
            env={**env, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outcomes = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [0, 0], outcomes
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in outcomes)
    assert first["timeout_s"] == second["timeout_s"] == 77
    assert first["files"] == second["files"] == ["checkpoint-0.pth"]  # the first process wrote, the other did not
    assert first["agree"] and first["refusal"] == second["refusal"]
    assert "the training set has 9 scenes, the checkpoint's had 12" in first["refusal"]
    assert len(first["batches"]) == len(second["batches"]) == 5
    drawn = [index[0] for batch in first["batches"] + second["batches"] for index in batch]
    assert len(set(drawn)) == len(drawn)  # no sample twice
    assert [len(batch) for batch in first["batches"]] == [len(batch) for batch in second["batches"]]
    # of the batches 1, 2, 30 and 3, 10: mean 46 / 5, median 3
    assert first["validation"] == second["validation"] == {"loss_avg": 9.2, "loss_med": 3.0}
    assert first["wrote"] == [["val_loss_avg", 9.2, 2000], ["val_loss_med", 3.0, 2000]] and second["wrote"] == []
