"""From a checkpoint to a file that runs elsewhere, checked before it gets its name."""
