"""What a person runs to train RoboRefer."""
