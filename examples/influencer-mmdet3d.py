"""Train masks of one synthetic room with the influencer loss alone, on plain torch. Takes seconds on a CPU:

python examples/influencer-mmdet3d.py
"""

import argparse

import numpy as np
import torch
from influencer_mmdet3d import make_room, mask_influencer_loss
from torch import nn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(args.seed)
torch.set_num_threads(1)

room = make_room(np.random.default_rng(args.seed), points=2048, objects=(6, 8), layout="spread")
points = torch.from_numpy(room.points).float()
xyz, colour = points[:, :3], points[:, 3:] / 127.5 - 1
segments = torch.from_numpy(np.unique(room.instance, return_inverse=True)[1])
masks = nn.functional.one_hot(segments).T.bool()  # (K, N): one row for each instance

# a network that turns points into features, and queries that turn features into masks
waves = torch.cat([f(xyz * scale) for scale in (0.5, 1, 2, 4) for f in (torch.sin, torch.cos)], 1)
encoder = nn.Sequential(nn.Linear(27, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32))
queries = nn.Parameter(torch.randn(2 * len(masks), 32))
optimizer = torch.optim.AdamW([*encoder.parameters(), queries], lr=1e-2)


def found() -> int:
    """Count the instances that some query covers with an IoU above 0.5."""
    with torch.no_grad():
        predicted = queries @ encoder(torch.cat([waves, colour], 1)).T > 0
    both = (predicted[:, None] & masks).sum(-1)
    either = (predicted[:, None] | masks).sum(-1)
    return int(((both / either.clamp_min(1)).max(0).values > 0.5).sum())


print(f"{len(masks)} instances, {len(queries)} queries; found before training: {found()}")
for step in range(args.steps):
    logits = queries @ encoder(torch.cat([waves, colour], 1)).T  # (Q, N)
    terms, assignment = mask_influencer_loss(logits, masks)
    loss = terms.attraction + 0.1 * terms.repulsion + 0.1 * terms.background
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 25 == 0:
        print(f"step {step + 1}: loss {loss.item():.3f}, found {found()}")
print("own query of each instance:", assignment.own[0].tolist())
