"""RefSpatial-Bench layout: `{set}/question.json` with one image and one mask for each question.

Its questions have one image and always a point, so only side-by-side samples with a visible object fit.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from roborefer_spatial import files
from roborefer_spatial.predicting.profiles import Profile
from roborefer_spatial.sample import Sample
from roborefer_spatial.scoring.points import read_mask

_OBJECT = "the object in the right view that is tinted red in the left view"
_CATEGORY = "cross-view correspondence"


def write_refspatial(folder: Path, final: Path, name: str, samples: Sequence[Sample], profile: Profile) -> str:
    """Write one set; return a summary.

    The mask is in the frame of the whole image, so that `int(x * width)` of an answer finds its pixel.

    Raises
    ------
    ValueError
        Samples of two images, or none with a visible object.
    """
    two = next((sample for sample in samples if sample.concat is None), None)
    if two is not None:
        raise ValueError(
            f"{name}: sample {two.id} has {len(two.image)} images and RefSpatial-Bench shows one: export a "
            "concat set (`build --emit-concat 1`)"
        )
    visible = [sample for sample in samples if sample.visible]
    if not visible:
        raise ValueError(f"{name}: no sample has a visible object, and RefSpatial-Bench has no NOT_VISIBLE")
    target = folder / name
    for part in ("image", "mask"):
        (target / part).mkdir(parents=True)
    questions = [_question(target, index, sample, profile) for index, sample in enumerate(visible)]
    files.write_json(target / "question.json", questions)
    return f"{name}: {len(visible)} questions; {len(samples) - len(visible)} NOT_VISIBLE samples left out"


def _question(target: Path, index: int, sample: Sample, profile: Profile) -> dict[str, object]:
    source = Path(sample.image[0])
    image, mask = f"image/{index:06d}{source.suffix}", f"mask/{index:06d}.png"
    try:
        shutil.copyfile(source, target / image)
    except OSError as error:
        raise ValueError(f"{source}: cannot be copied: {error.strerror or error}") from error
    Image.fromarray(_mask_of_whole(sample)).save(target / mask)
    # the host asks f"{prompt} {suffix}", which is the whole question again
    prompt, found, rest = profile.prompt(sample).partition(" Answer ")
    return {
        "id": sample.id,
        "object": _OBJECT,
        "prompt": prompt,
        "suffix": f"Answer {rest}" if found else "",
        "rgb_path": image,
        "mask_path": mask,
        "category": _CATEGORY,
        "step": 1,
    }


def _mask_of_whole(sample: Sample) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return (h, w) uint8, 255 where the mask that counts lies in the side-by-side image."""
    path = sample.mask_dilated_path if sample.gt_mask == "dilated" else sample.mask_path
    assert path is not None
    assert sample.concat is not None
    mask, (width, height) = read_mask(path), sample.concat.size_wh
    whole = np.zeros((height, width), dtype=np.uint8)
    whole[: mask.shape[0], sample.concat.left_wh[0] :][mask] = 255
    return whole
