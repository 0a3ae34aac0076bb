"""Random lives on the simulated system, the promises as invariants, and the tools around them."""
