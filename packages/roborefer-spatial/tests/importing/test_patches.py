import dataclasses

import numpy as np
import scannet_rooms
from PIL import Image
from roborefer_spatial.importing import layouts, patches
from roborefer_spatial.importing.recording import back_project, read_depth, to_world
from roborefer_spatial.synthetic import tree


def test_patches_are_carried_to_the_same_surface(tmp_path, monkeypatch):
    """The independent oracle: the numbers of the things, which the patches never see."""
    monkeypatch.setattr(tree, "cameras", _one_focal(tree.cameras))
    folder = scannet_rooms.export(tmp_path, split="val", number=1, seed=5)
    recording = layouts.load(folder, "scannet", "none", tmp_path)
    found = patches.find_patches(recording, 12)
    assert len(found) >= 3
    labelled = layouts.load(folder, "scannet", "frames", tmp_path)
    numbers = [np.asarray(Image.open(frame.labels)) for frame in labelled.frames]
    wrong = total = 0
    for patch in found:
        here = np.bincount(numbers[patch.anchor][patch.mask])
        if here.max() < 0.98 * patch.mask.sum():
            continue  # on the seam of two things
        for index, frame in enumerate(recording.frames):
            if index == patch.anchor:
                continue
            depth = read_depth(frame, recording)
            world = to_world(back_project(depth, recording.k_depth), frame.pose)
            mask = patches.carried(patch, world, depth > 0, recording)
            wrong += int((numbers[index][mask] != here.argmax()).sum())
            total += int(mask.sum())
    assert total > 200
    assert wrong < 0.03 * total


def test_a_patch_carried_to_its_own_frame_is_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "cameras", _one_focal(tree.cameras))
    folder = scannet_rooms.export(tmp_path, split="val", number=0, seed=5)
    recording = layouts.load(folder, "scannet", "none", tmp_path)
    patch = patches.find_patches(recording, 1)[0]
    world = to_world(back_project(patch.depth, recording.k_depth), recording.frames[patch.anchor].pose)
    mask = patches.carried(patch, world, patch.depth > 0, recording)
    assert (mask & patch.mask).sum() >= 0.99 * patch.mask.sum()
    assert mask.sum() <= 1.1 * patch.mask.sum()


def _one_focal(several):
    def cameras(*arguments):
        seats = several(*arguments)
        return [dataclasses.replace(seat, focal_px=seats[0].focal_px) for seat in seats]

    return cameras
