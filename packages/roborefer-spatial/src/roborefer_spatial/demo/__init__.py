"""The whole way on synthetic rooms, on a CPU."""
