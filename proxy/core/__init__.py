"""FLOOR 0. Pure: no I/O, clock, randomness, await or framework. Bytes and values in, values out."""
