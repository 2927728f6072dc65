"""`rig.yaml`: any set of rigid cameras, and where their images lie.

```yaml
axes: opencv            # of the rig: opencv (x right, y down, z ahead) or flu (x ahead, y left, z up)
frames: name            # name: what `*` stands for is the frame's name; order: the k-th files belong together
cameras:
  front:
    K: [[335.6, 0, 399.5], [0, 335.6, 299.5], [0, 0, 1]]     # pixels, pixel centres at integers
    pose: {translation: [0, -0.1, 0.5], quaternion: [0, 0, 0, 1]}   # camera to rig, metres; x, y, z, w; or a 4 x 4
    size: [800, 600]
    images: front/*.png                                      # beside rig.yaml; one * stands for the frame
    depth: front_depth/*.npy                                 # may be left out
```

Cameras look along their own z axis (x right, y down) whatever the rig's axes are. A panorama is seen from the rig's
origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mapanything_opv2v.panorama.rig import Rig, RigCamera
from mapanything_opv2v.photographs import read
from mapanything_opv2v.rawdata import load_depth
from mapanything_opv2v.rawdata.rigs import RecordedCamera, Recording, is_rig_file, load_recording

__all__ = ["RigFile", "is_rig_file", "load_rig_file"]


@dataclass(frozen=True, eq=False)
class RigFile(Recording):
    """A recording that reads its frames, and its cameras as a panorama's rig."""

    @property
    def rig(self) -> Rig:
        """The cameras around the rig's origin, OpenCV axes."""
        stated = (camera.stated for camera in self.cameras)
        return Rig(tuple(RigCamera(camera.intrinsic, camera.T_rig_cam, camera.size_wh) for camera in stated))

    @property
    def names(self) -> list[str]:
        """The cameras' names."""
        return [camera.stated.name for camera in self.cameras]

    @property
    def has_depth(self) -> bool:
        """Whether every camera has a depth map of every frame."""
        return all(set(self.frames) <= set(camera.depths) for camera in self.cameras)

    def frame(self, name: str | None) -> str:
        """Return a frame's name, the first by default.

        Raises
        ------
        ValueError
            If there is no such frame.
        """
        if name is not None and name not in self.frames:
            raise ValueError(
                f"{self.path}: no frame {name!r}; {len(self.frames)} are there, such as {self.frames[0]!r}"
            )
        return self.frames[0] if name is None else name

    def images(self, frame: str) -> list[npt.NDArray[np.uint8]]:
        """Read a frame's images, RGB.

        Raises
        ------
        ValueError
            If one is of another size than the file states; names it.
        """
        return [self._sized(c, np.asarray(read(c.images[frame])), c.images[frame]) for c in self.cameras]

    def depths(self, frame: str) -> list[npt.NDArray[np.float32]]:
        """Read a frame's depth maps, z-depth in metres; they may have errors as `images` has."""
        return [self._sized(c, load_depth(c.depths[frame]), c.depths[frame]) for c in self.cameras]

    def _sized(self, camera: RecordedCamera, array: Any, path: Path) -> Any:
        (height, width), (wide, high) = array.shape[:2], camera.stated.size_wh
        if (width, height) != (wide, high):
            raise ValueError(
                f"{path}: {width} x {height}, but {self.path} says {wide} x {high} for camera "
                f"{camera.stated.name!r}; change size and K together, or the images"
            )
        return array


def load_rig_file(path: str | Path) -> RigFile:
    """Read a rig file and find its files.

    Raises
    ------
    ValueError
        If a key is missing, unknown or makes no camera, or no frame is complete; names file, camera and key.
    OSError
        If it cannot be read.
    """
    recording = load_recording(path)
    return RigFile(recording.path, recording.cameras, recording.frames)
