"""Answer the samples of a training file with the host backend, all at once and one by one; print JSON."""

import json
import sys
from pathlib import Path

from roborefer_spatial.predicting.backends import Request, create, options

model, file = sys.argv[1:3]
backend = create("host", options("host", {"model": model, "device": "cpu", "max_new_tokens": 40}))
requests = [
    Request(
        id=row["id"],
        images=tuple(Path(file).parent / name for name in row["image"]),
        prompt=row["conversations"][0]["value"],
    )
    for row in json.loads(Path(file).read_text())
]
together = backend.answer(requests)
alone = [backend.answer([request])[0] for request in requests]
print("ANSWERS " + json.dumps({"together": together, "alone": alone}))
