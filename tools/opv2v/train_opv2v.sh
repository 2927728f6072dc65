#!/usr/bin/env bash
# Train a stage: `python -m mapanything_opv2v.train +experiment=opv2v_STAGE` on one GPU, several, or in a SLURM job.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: train_opv2v.sh stage1|stage2|stage3|cylindrical [options of mapanything_opv2v.train] [Hydra overrides]

  MAPANYTHING_ROOT   your MapAnything checkout, which also has to be on PYTHONPATH
  OPV2V_ROOT         the data set; OPV2V_DEPTH_ROOT its depth maps, if they lie in a tree of their own
  GPUS=N             N processes with torchrun on this machine (default: 1, without torchrun)
  SLURM=1            queue one job with Hydra's submitit launcher, with GPUS tasks (default: 4)
  DRY_RUN=1          print the command instead
  PYTHON             Python that has mapanything-opv2v and MapAnything's requirements (default: python3)

The same command again goes on where the run stopped. `python3 -m mapanything_opv2v.train --help` lists the options.

examples:
  GPUS=4 train_opv2v.sh stage1
  SLURM=1 GPUS=8 train_opv2v.sh stage2 hydra.launcher.partition=gpu
TEXT
}

case "${1:-}" in
    stage1 | stage2 | stage3 | cylindrical) stage=$1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
esac
shift
python=${PYTHON:-python3}
if [[ ${SLURM:-0} == 1 ]]; then
    command=("$python" -m mapanything_opv2v.train "+experiment=opv2v_$stage" +cluster=opv2v_slurm
        "hydra.launcher.gpus_per_node=${GPUS:-4}")
elif [[ ${GPUS:-1} == 1 ]]; then
    command=("$python" -m mapanything_opv2v.train "+experiment=opv2v_$stage")
else
    command=("$python" -m torch.distributed.run --standalone "--nproc_per_node=$GPUS"
        -m mapanything_opv2v.train "+experiment=opv2v_$stage")
fi
if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%q ' "${command[@]}" "$@"
    echo
    exit 0
fi
exec "${command[@]}" "$@"
