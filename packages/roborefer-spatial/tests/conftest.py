"""Samples made by hand, so that what is tested does not depend on the builder."""

import json
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image
from roborefer_spatial.answers import NOT_VISIBLE, format_points
from roborefer_spatial.images import ConcatMap
from roborefer_spatial.sample import Sample, turns

# what an example does is tested, not how long a busy machine takes for it
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


class SampleMaker:
    """Writes a sample's images and masks, and returns the sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Sample] = []

    def __call__(
        self,
        pixel=None,
        *,
        size_wh=(64, 48),
        mask=None,
        dilated=None,
        gt_mask="raw",
        task="t1_multi",
        left_wh=None,
        scene="scene0000_00",
        split="val",
        name=None,
        images=False,
    ) -> Sample:
        """Make a sample whose truth is the centre of `pixel` (col, row) of the query; None: NOT_VISIBLE.

        `mask` and `dilated` are (h, w) bool; by default only `pixel` is set, and there is no dilated mask.
        The picture files are written only with `images`.
        """
        index = len(self.made)
        stem = name or f"s{index:05d}"
        width, height = size_wh
        if mask is None:
            mask = np.zeros((height, width), dtype=bool)
            if pixel is not None:
                mask[pixel[1], pixel[0]] = True
        concat = ConcatMap(left_wh or size_wh, size_wh) if task == "t1_concat" else None
        point = None if pixel is None else ((pixel[0] + 0.5) / width, (pixel[1] + 0.5) / height)
        if concat and point:
            point = concat.right_to_full(*point)
        answer_size = concat.size_wh if concat else size_wh
        sizes = {"_whole": answer_size} if concat else {"_a": left_wh or size_wh, "_b": size_wh}
        paths = [str(self.folder / f"{stem}{kind}.png") for kind in sizes]
        if images:
            for path, size in zip(paths, sizes.values()):
                self.image(path, size, seed=index)
        sample = Sample(
            id=stem,
            task=task,
            image=paths,
            query_original=paths[-1],
            turns=turns(f"Where is object {index}?", format_points([point], answer_size) if point else NOT_VISIBLE),
            mask_path=self.mask(f"{stem}_mask.png", mask),
            mask_dilated_path=None if dilated is None else self.mask(f"{stem}_mask_dilated.png", dilated),
            gt_mask=gt_mask,
            query_size=size_wh,
            ref_point=None if task == "t2b_multi" else (0.25, 0.5),
            answer_point=point,
            coord_frame="concat" if concat else "query",
            concat=concat,
            seed=0,
            split=split,
            scene=scene,
            uid="1",
            view_ref="01",
            view_query="02",
        )
        self.made.append(sample)
        return sample

    def image(self, path: str, size_wh, seed: int) -> None:
        shape = (size_wh[1], size_wh[0], 3)
        values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(values).save(path)

    def mask(self, name: str, mask) -> str:
        Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).save(self.folder / name)
        return str(self.folder / name)

    def write(self, samples, name="samples.json") -> Path:
        """Write a sample file."""
        path = self.folder / name
        rows = [sample.to_row() for sample in samples]
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            path.write_text(json.dumps(rows))
        return path

    def answers(self, texts: dict[str, str], name="answers.jsonl") -> Path:
        """Write an answer file."""
        path = self.folder / name
        path.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in texts.items()))
        return path


@pytest.fixture
def make_sample(tmp_path) -> SampleMaker:
    folder = tmp_path / "samples"
    folder.mkdir()
    return SampleMaker(folder)


class X3Tree:
    """Writes views of an x3 tree; by default 24x18 noise with a square mask, and an inpainted picture."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, split="train", scene="s1", uid="1") -> Path:
        path = self.root / split / scene / f"uid_{uid}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def view(
        self,
        number=1,
        *,
        split="train",
        scene="s1",
        uid="1",
        frame=None,
        size_wh=(24, 18),
        mask=None,
        visible=True,
        without=(),
        dilated_name="mask_dialated",
    ) -> Path:
        """Write one view and return the start of its file names; `mask` is (h, w) bool."""
        width, height = size_wh
        rng = np.random.default_rng([number, *map(ord, split + scene + uid)])
        if mask is None:
            mask = np.zeros((height, width), dtype=bool)
            mask[height // 3 : height // 2, width // 4 : width // 2] = visible
        dilated = np.asarray(mask).copy()
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            dilated |= np.roll(mask, shift, axis)
        original = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        inpainted = np.where(dilated[..., None], 128, original).astype(np.uint8)
        stem = self.folder(split, scene, uid) / f"{number:02d}_{frame or f'{number:06d}'}"
        files = {"original": original, "inpainted": inpainted, "mask": mask, dilated_name: dilated}
        for kind, array in files.items():
            if kind not in without:
                values = array.astype(np.uint8) * 255 if array.dtype == bool else array
                Image.fromarray(values).save(f"{stem}_{kind}.png")
        return stem

    def uid(self, *, views=3, hidden=(), **where) -> Path:
        """Write an object with views 1..views, its mask empty in those `hidden`; return its folder."""
        for number in range(1, views + 1):
            stem = self.view(number, visible=number not in hidden, **where)
        return stem.parent


@pytest.fixture
def x3_tree(tmp_path) -> X3Tree:
    return X3Tree(tmp_path / "x3")
