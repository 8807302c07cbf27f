"""Benchmarks, run by hand or by `make bench`. Each ends with one line of JSON."""
