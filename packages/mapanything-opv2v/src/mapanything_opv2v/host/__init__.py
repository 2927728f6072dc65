"""The only part of the package that imports MapAnything: datasets, registration."""
