"""The machine: GPUs, cores, memory, the shared cache, addresses, failures."""
