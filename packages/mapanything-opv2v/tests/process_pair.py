"""One of two processes that use the launcher's pieces together, through gloo. Run by test_process_pair.

    process_pair.py FOLDER

Prints what it saw as JSON. The host's own DDP needs NCCL; this is what of it can run on a CPU.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import host_double
import training_double

sys.modules.update({**host_double.modules(), **training_double.modules()})

import torch  # noqa: E402
from mapanything_opv2v.host.training import deviations, run_state  # noqa: E402
from mapanything_opv2v.samples.steps import FixedStepsSampler  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

folder, rank, world = Path(sys.argv[1]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
tools = sys.modules["mapanything.utils.train_tools"]
training = sys.modules["mapanything.train.training"]


def build(samples):
    return training.build_dataset(list(range(samples)), 0, test=False, max_num_of_imgs_per_gpu=1)


def state():
    return run_state.RunState(OmegaConf.create({**training_double.CONFIG, "folder": str(folder)}), folder, "abc")


def refusal(path):
    build(9)
    params = SimpleNamespace(resume=True, resume_ckpt=str(path))
    try:
        tools.load_model(train_args=params, model_without_ddp=None, optimizer=None, loss_scaler=None)
    except SystemExit as stop:
        return str(stop)
    return "went on"


seen = {"rank": rank}
with deviations.applied(state()):
    tools.init_distributed_mode(SimpleNamespace())
    group = torch.distributed.distributed_c10d._get_default_group()
    seen["timeout_s"] = group._get_backend(torch.device("cpu")).options._timeout.total_seconds()
    build(12)
    mine = folder / f"checkpoint-{rank}.pth"
    tools.save_on_master({"model": {}, "epoch": 0}, mine)
    torch.distributed.barrier()
    seen["files"] = sorted(path.name for path in folder.glob("*.pth"))
    seen["refusal"] = refusal(folder / "checkpoint-0.pth")
    sampler = FixedStepsSampler(steps=5, samples=12, batch_sizes=(2, 1), world_size=world, rank=rank)
    sampler.set_epoch(0)
    seen["batches"] = list(sampler)
    wrote = []
    writer = SimpleNamespace(add_scalar=lambda *scalar: wrote.append(scalar))
    losses = [[1.0, 2.0, 30.0], [3.0, 10.0]][rank]
    seen["validation"] = training.test_one_epoch(
        None, None, losses, "cpu", 2, args=None, log_writer=writer if rank == 0 else None, prefix="val"
    )
    seen["wrote"] = wrote
    said = [None] * world
    torch.distributed.all_gather_object(said, seen["refusal"])
    seen["agree"] = len(set(said)) == 1
    torch.distributed.destroy_process_group()
print(json.dumps(seen), flush=True)
os._exit(0)  # all is said; on a busy machine gloo's threads now and then abort when the interpreter takes them down
