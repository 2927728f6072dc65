#!/usr/bin/env bash
# Minimal SFT on Task 1: `python -m roborefer_spatial.train` with the notes' defaults.
#   MODEL_PATH=RoboRefer-2B-SFT DATA_PATH=x3/t1_train_multi.jsonl OUTPUT_DIR=runs/t1 tools/x3/run_sft_t1_x3.sh --max_steps 1000
# FREEZE_VISION=1 keeps the vision tower as it is, 0 trains it. Arguments are handed on.
set -euo pipefail

: "${ROBOREFER_ROOT:?set it to your RoboRefer checkout}"
: "${MODEL_PATH:?set it to the checkpoint to start from, such as RoboRefer-2B-SFT}"
: "${DATA_PATH:?set it to a training file of roborefer-spatial build, such as x3/t1_train_multi.jsonl}"
: "${OUTPUT_DIR:?set it to the folder for checkpoints and log}"

case "${FREEZE_VISION:-1}" in
    1) vision=--freeze_vision ;;
    0) vision=--no-freeze_vision ;;
    *) echo "FREEZE_VISION must be 0 or 1, got ${FREEZE_VISION}" >&2; exit 2 ;;
esac

# No pipe and no tee: the exit status is the training's own, and train.py writes the log.
exec "${PYTHON:-python3}" -m roborefer_spatial.train \
    --model_name_or_path "$MODEL_PATH" --data "$DATA_PATH" --output_dir "$OUTPUT_DIR" \
    --log_file "${LOG_FILE:-$OUTPUT_DIR/train.log}" "$vision" \
    --image_aspect_ratio resize --model_max_length 8192 "$@"
