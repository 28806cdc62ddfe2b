"""The machine: GPUs, cores, memory, the cache that processes share, addresses, failures."""
