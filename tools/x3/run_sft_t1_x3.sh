#!/usr/bin/env bash
# Minimal SFT on Task 1: `python -m roborefer_spatial.train` with the research script's defaults and names.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: [MODEL_PATH=DIR] [DATA_PATH=FILE] [OUTPUT_DIR=DIR] run_sft_t1_x3.sh [options of roborefer_spatial.train]

  ROBOREFER_ROOT   your RoboRefer checkout
  MODEL_PATH       checkpoint to start from (default: runs/train/RoboRefer-2B-Depth-Align)
  DATA_PATH        training file (default: tmp/spatial_tasks_x3/t1_train_multi.json, where run_zeroshot_x3.sh builds)
  OUTPUT_DIR       folder for checkpoints, model and log (default: runs/train/sft_t1_x3)
  FREEZE_VISION    1 (default) keeps the vision tower as it is, 0 trains it
  LOG_FILE         default: OUTPUT_DIR/train.log
  PYTHON           Python that has roborefer-spatial and RoboRefer's requirements (default: python3)

Set here: --image-aspect-ratio resize --model-max-length 8192. Options are handed on, such as --gpus 8
--max-steps 1000; `python3 -m roborefer_spatial.train --help` lists them. The exit status is the training's own.

example:
  MODEL_PATH=RoboRefer-2B-SFT DATA_PATH=tasks/t1_train_multi.jsonl OUTPUT_DIR=runs/t1 tools/x3/run_sft_t1_x3.sh --gpus 8
TEXT
}

for word in "$@"; do
    if [[ $word == -h || $word == --help ]]; then
        usage
        exit 0
    fi
done

MODEL_PATH=${MODEL_PATH:-runs/train/RoboRefer-2B-Depth-Align}
DATA_PATH=${DATA_PATH:-tmp/spatial_tasks_x3/t1_train_multi.json}
OUTPUT_DIR=${OUTPUT_DIR:-runs/train/sft_t1_x3}
if [[ -z ${ROBOREFER_ROOT:-} ]]; then
    echo "run_sft_t1_x3.sh: ROBOREFER_ROOT is not set" >&2
    usage >&2
    exit 2
fi
for name in MODEL_PATH DATA_PATH; do
    if [[ ! -e ${!name} ]]; then
        echo "run_sft_t1_x3.sh: $name is ${!name}, and there is no such path here" >&2
        usage >&2
        exit 2
    fi
done

case ${FREEZE_VISION:-1} in
    1) vision=--freeze-vision ;;
    0) vision=--no-freeze-vision ;;
    *) echo "run_sft_t1_x3.sh: FREEZE_VISION must be 0 or 1, got $FREEZE_VISION" >&2; exit 2 ;;
esac

# No pipe and no tee, so that the exit status is the training's; train writes the log itself.
exec "${PYTHON:-python3}" -m roborefer_spatial.train \
    --model-name-or-path "$MODEL_PATH" --data "$DATA_PATH" --output-dir "$OUTPUT_DIR" \
    --log-file "${LOG_FILE:-$OUTPUT_DIR/train.log}" "$vision" \
    --image-aspect-ratio resize --model-max-length 8192 "$@"
