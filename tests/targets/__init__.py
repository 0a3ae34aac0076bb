"""Programs that the end-to-end tests stop, and the laboratory that starts, observes and ends them."""
