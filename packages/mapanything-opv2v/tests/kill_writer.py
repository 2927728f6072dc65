"""Kill a process that writes checkpoints, again and again, and say what each kill left. Run by test_kill.

    kill_writer.py FOLDER whole|plain KILLS SEED

One warm process forks the writers, so that a kill costs milliseconds and not an import of torch. Prints JSON:
`kills`, `lost` (kills after which there was no good checkpoint), `behind` (the checkpoint was older than the one
before the one that was being written), `leftovers` (kills that left a half written file beside).
"""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import torch
from mapanything_opv2v.checkpoints import storage

BEGUN, DONE = 0, 1


def plain(path, value):
    torch.save(value, path)


def write_for_ever(path, write, number, pipe):
    while True:
        number += 1
        value = {"epoch": number, "model": {"weight": torch.full((1 << 18,), float(number))}}
        os.write(pipe, struct.pack("<BI", BEGUN, number))
        write(path, value)
        os.write(pipe, struct.pack("<BI", DONE, number))


def killed_after(seconds, path, write, number):
    """Fork a writer, kill it, and return the numbers that it last began and last finished."""
    read, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            write_for_ever(path, write, number, pipe)
        finally:
            os._exit(1)
    os.close(pipe)
    told = os.read(read, 5)  # it has begun
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the writer ended by itself: {status}"
    while part := os.read(read, 1 << 16):
        told += part
    os.close(read)
    last = {BEGUN: number, DONE: number}
    for kind, value in struct.iter_unpack("<BI", told[: len(told) // 5 * 5]):
        last[kind] = value
    return last[BEGUN], last[DONE]


def good_number(path):
    """Return the number of a good checkpoint, None of a bad one."""
    try:
        checkpoint = storage.load(path)
    except (ValueError, FileNotFoundError):
        return None
    weight = checkpoint["model"]["weight"]
    return checkpoint["epoch"] if (weight == checkpoint["epoch"]).all() else None


def main():
    folder, how, kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    write = {"whole": storage.write, "plain": plain}[how]
    path, rng = folder / "checkpoint-last.pth", random.Random(seed)
    started = time.perf_counter()
    for _ in range(3):
        write(path, {"epoch": 0, "model": {"weight": torch.zeros(1 << 18)}})
    three = time.perf_counter() - started
    number, lost, behind, leftovers = 0, 0, 0, 0
    for _ in range(kills):
        begun, done = killed_after(rng.uniform(0, three), path, write, number)
        found = good_number(path)
        if found is None:
            lost, number = lost + 1, begun
        else:
            behind += not (max(begun - 1, done) <= found <= begun)
            number = found
        leftovers += bool(storage.clean(folder))
    print(json.dumps({"kills": kills, "lost": lost, "behind": behind, "leftovers": leftovers}))


main()
