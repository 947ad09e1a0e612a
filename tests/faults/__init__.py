"""The campaign of faults: runs that are killed, full disks, odd environments, bad input and abuse, tried and counted.

`make faults` runs all parts and writes their counts into docs/reliability.md; `make test-faults` is the short form.
"""
