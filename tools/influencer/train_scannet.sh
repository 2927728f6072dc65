#!/usr/bin/env bash
# Train on ScanNet in the host.
#
# Usage: train_scannet.sh baseline|influencer|CONFIG.py [--resume [CHECKPOINT]] [--work-dir DIR] [--data-root DIR] [--amp]
#       [--trust-checkpoint] [--dry-run] [--quiet] [--cfg-options KEY=VALUE ...]
#
# Runs from any folder. Log and checkpoints go to --work-dir, default work_dirs/<config's name> in the current folder.
# --resume goes on from the last checkpoint there, and starts anew where there is none yet.
#
# ONEFORMER3D_ROOT  the host's checkout (required); used as it is
# GPUS=N            N processes with torchrun; in a SLURM job, N tasks with srun
# PYTHON            interpreter that has the package (default: python3)
# In a SLURM job (sbatch, salloc, or as a task of srun) the tasks of the job are used.
# The exit status is that of the host's tools/train.py; 2: package, command, data or checkpoint is not usable.
#
# Examples:
#   train_scannet.sh influencer --resume
#   GPUS=2 train_scannet.sh baseline --work-dir runs/baseline --cfg-options load_from=None

# Each of these scripts stands alone: sbatch runs a copy of one, from another folder.
set -euo pipefail
PYTHON=${PYTHON:-python3}
if [[ $# -eq 0 || $1 == -h || $1 == --help ]]; then
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit $(($# == 0 ? 2 : 0))
fi
if ! "$PYTHON" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("influencer_mmdet3d") is None)'; then
    echo "$PYTHON has no influencer_mmdet3d: pip install influencer-mmdet3d, or set PYTHON to one that has it" >&2
    exit 2
fi
exec "$PYTHON" -m influencer_mmdet3d.cli train scannet "$@"
