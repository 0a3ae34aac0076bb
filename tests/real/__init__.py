"""endtask against real programs: what `look` says against what then happens, what `stop` reports against what is then left."""
