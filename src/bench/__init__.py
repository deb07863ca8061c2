"""Benchmarks: how fast the system is, each figure beside a reference measured in the same run on the same machine.

In: this project, a disk, and a few minutes. Every row starts the servers and services it needs, on free ports and in a
temporary folder, and sends real orders, which are filled and synced to the disk.

Out: a table of ratios and their targets; the same as JSON, with the raw figures and a description of the machine; and a
page of plots made from it.

`python -m bench --help` lists the rows and options.
"""
