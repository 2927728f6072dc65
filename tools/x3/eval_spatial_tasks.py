#!/usr/bin/env python3
"""Answer and score x3 spatial tasks under the research script's name; `--help` lists the flags."""

import sys

try:
    from roborefer_spatial.predicting.predict_and_score import main
except ImportError as error:
    sys.exit(f"{sys.executable} cannot import roborefer_spatial ({error}): pip install roborefer-spatial into it")

if __name__ == "__main__":
    sys.exit(main())
