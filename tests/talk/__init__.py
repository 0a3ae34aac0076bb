"""Programs that talk to whoever stops them, and what is heard of that."""
