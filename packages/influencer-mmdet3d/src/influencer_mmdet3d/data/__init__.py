"""The host's data format: synthetic rooms in it, and rules that find what the host would stop at."""
