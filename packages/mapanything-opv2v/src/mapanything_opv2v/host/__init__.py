"""The only part of the package that imports MapAnything: datasets, losses, models, training, registration."""
