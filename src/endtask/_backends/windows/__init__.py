"""Windows: the handles, the tables and the ways to ask that its processes have."""
