"""The contract of a backend, tried on the simulated system and on the real one, so that the simulator stays true."""
