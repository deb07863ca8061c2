"""Benchmarks: how fast the system is, each figure beside a reference measured in the same run on the same machine.

In: nothing but this project, a disk, and a few minutes. Every row starts the servers and services it needs, on free
ports and in a temporary folder, and sends real orders, which are filled and synced to the disk.

Out: a table of ratios with what they should reach; the same as JSON with the raw figures and the machine's
description; a page of plots made from that.

`python -m bench --help` says how.
"""
