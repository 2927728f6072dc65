"""s2wrapper is imported whether or not it is used."""

from s2wrapper import forward as multiscale_forward


class VisionTower:
    def scaled(self, image):
        return multiscale_forward(self, image)
