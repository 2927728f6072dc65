"""Adapter to RoboRefer: data module, repairs, launch. Nothing here changes the user's checkout."""
