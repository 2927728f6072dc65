"""Rules on a prepared dataset: what OneFormer3D would choke on, found before training."""
