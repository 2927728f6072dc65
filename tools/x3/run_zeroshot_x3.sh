#!/usr/bin/env bash
# Zero-shot evaluation on the four validation sets: build them if needed, answer with one model load, score.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: [MODEL=DIR] [DATA_ROOT=DIR] run_zeroshot_x3.sh [options of eval_spatial_tasks.py]

  MODEL      checkpoint (default: runs/train/RoboRefer-2B-Depth-Align, where that folder is; not for --backend http)
  DATA_ROOT  x3 tree (default: x3, where that folder is); needed only while OUT_DIR has no task sets
  OUT_DIR    task sets (default: tmp/spatial_tasks_x3)
  EVAL_DIR   results (default: runs/eval_spatial_x3)
  PYTHON     Python that has roborefer-spatial (default: python3)

Options are handed on, such as --backend transformers, --batch-size 16 or --limit 100. The exit status is 0 only if
every sample was answered.

example:
  MODEL=RoboRefer-2B-Depth-Align DATA_ROOT=x3 ROBOREFER_ROOT=RoboRefer tools/x3/run_zeroshot_x3.sh --batch-size 16
TEXT
}

for word in "$@"; do
    if [[ $word == -h || $word == --help ]]; then
        usage
        exit 0
    fi
done

python=${PYTHON:-python3}
out_dir=${OUT_DIR:-tmp/spatial_tasks_x3}
eval_dir=${EVAL_DIR:-runs/eval_spatial_x3}
if [[ -z ${DATA_ROOT:-} && -d x3 ]]; then
    DATA_ROOT=x3
fi

if [[ -f $out_dir/manifest.json ]]; then
    echo "task sets are in $out_dir already (manifest.json); not built again"
else
    if [[ -z ${DATA_ROOT:-} ]]; then
        echo "run_zeroshot_x3.sh: $out_dir has no task sets and DATA_ROOT is not set" >&2
        usage >&2
        exit 2
    fi
    "$python" -m roborefer_spatial build --data-root "$DATA_ROOT" --out-dir "$out_dir" \
        --mode anchor --anchor-k 1 --emit-concat 1
fi

data=() outputs=()
for name in t1_val_multi t1_val_concat t2a_val_multi t2b_val_multi; do
    if [[ -s $out_dir/$name.json && $(head -c 2 "$out_dir/$name.json") != "[]" ]]; then
        data+=("$out_dir/$name.json")
        outputs+=("$eval_dir/$name.json")
    else
        echo "$name: no samples in $out_dir, left out"
    fi
done
if [[ ${#data[@]} -eq 0 ]]; then
    echo "run_zeroshot_x3.sh: $out_dir has no validation samples" >&2
    exit 1
fi

model=()
if [[ -z ${MODEL:-} && -d runs/train/RoboRefer-2B-Depth-Align && " $* " != *" --backend "* && " $* " != *" --backend="* ]]; then
    MODEL=runs/train/RoboRefer-2B-Depth-Align
fi
if [[ -n ${MODEL:-} ]]; then
    model=(--model-name-or-path "$MODEL")
fi
# No pipe and no tee, so that the exit status is the evaluation's.
exec "$python" -m roborefer_spatial.predicting.predict_and_score --data-json "${data[@]}" --output-json "${outputs[@]}" "${model[@]}" "$@"
